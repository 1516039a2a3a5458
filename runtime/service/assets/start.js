"use strict";
const $ = (id) => document.getElementById(id);
const ENDED = ["done", "failed", "cancelled"];
const WORDS = { receiving: "is being sent", fetching: "is being fetched", queued: "waits", running: "is being looked at", done: "done", failed: "failed", cancelled: "cancelled" };
const STEPS = 500;

const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;
const say = (text) => { $("live").textContent = text; };
const complain = (text) => { $("fault").textContent = text; };

async function reasonOf(answer) {
  try { return (await answer.json()).error; } catch { return `the service answers ${answer.status}`; }
}

async function introduce() {
  const answer = await fetch("/v1/model");
  if (answer.status === 401) {
    $("login").hidden = false;
    $("send").hidden = true;
    $("token").focus();
    return;
  }
  if (!answer.ok) return complain(await reasonOf(answer));
  const model = await answer.json();
  $("login").hidden = true;
  $("send").hidden = false;
  const classes = model.classes.length > 12 ? `${model.classes.slice(0, 12).join(", ")} and ${model.classes.length - 12} more` : model.classes.join(", ");
  $("facts").textContent = `${model.model} knows ${classes}${model.demonstration ? ". A demonstration model: it knows " + model.demonstration + " and nothing else." : ""}`;
  const most = model.limits.max_upload_bytes / 1048576;
  $("limits").textContent = `at most ${most >= 1024 ? (most / 1024).toFixed(1) + " GiB" : most.toFixed(0) + " MiB"} and ${(model.limits.max_seconds / 60).toFixed(0)} minutes`;
  $("usual").textContent = model.score.toFixed(2);
  $("version").textContent = `afsd ${model.version}`;
}

class Job {
  constructor(name) {
    this.name = name;
    this.item = $("job").content.cloneNode(true).firstElementChild;
    this.part(".name").textContent = name;
    $("none").hidden = true;
    $("jobs").prepend(this.item);
    this.button = this.part(".remove");
    this.button.addEventListener("click", () => this.remove());
    this.enter("receiving");
  }
  part(selector) { return this.item.querySelector(selector); }
  enter(state, reason = "") {
    this.state = state;
    this.part(".state").textContent = WORDS[state];
    this.part(".reason").textContent = reason;
    this.button.textContent = ENDED.includes(state) ? "Remove" : "Cancel";
    this.button.setAttribute("aria-label", `${this.button.textContent} ${this.name}`);
    this.part("progress").hidden = ENDED.includes(state);
    this.part("progress").setAttribute("aria-label", `${this.name}: ${WORDS[state]}`);
    this.part("progress").removeAttribute("value");
    if (state !== "receiving") say(`${this.name}: ${WORDS[state]}${reason ? ": " + reason : ""}`);
  }
  advance(share) { if (share !== null) this.part("progress").value = share; }
  follow(job) {
    this.url = job.urls.job;
    this.enter(job.state);
    this.source = new EventSource(job.urls.events);
    const on = (kind, act) => this.source.addEventListener(kind, (event) => act(JSON.parse(event.data)));
    on("state", (data) => this.enter(data.state));
    on("progress", (data) => this.advance(data.share));
    on("detections", (data) => data.detections.forEach((found) => this.show(found)));
    on("warning", (data) => { this.part(".reason").textContent = data.reason; });
    on("done", (data) => {
      this.source.close();
      const warned = this.part(".reason").textContent;
      this.enter("done", warned);
      this.part(".state").textContent = `${data.detections} ${data.detections === 1 ? "detection" : "detections"}`;
      for (const [kind, address] of [["report", data.report], ["json", data.result]]) {
        this.part("." + kind).href = address;
        this.part("." + kind).hidden = false;
        this.part("." + kind).setAttribute("aria-label", `${this.part("." + kind).textContent}, ${this.name}`);
      }
      say(`${this.name}: ${this.part(".state").textContent}`);
    });
    for (const kind of ["failed", "cancelled"]) on(kind, (data) => { this.source.close(); this.enter(kind, data.reason); });
    this.source.onerror = async () => {
      if (this.source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      const answer = await fetch(this.url).catch(() => null);
      if (answer && !answer.ok) this.enter("failed", await reasonOf(answer));
    };
  }
  show(found) {
    const body = this.part("tbody");
    if (body.rows.length >= STEPS) return; // the report has all
    this.part("table").hidden = false;
    const row = body.insertRow();
    for (const text of [clock(found.segment[0]), clock(found.segment[1]), found.label, found.score.toFixed(2)]) row.insertCell().textContent = text;
  }
  async remove() {
    this.request?.abort();
    this.source?.close();
    if (this.url) await fetch(this.url, { method: "DELETE" }).catch(() => null);
    const next = this.item.nextElementSibling?.querySelector("button") ?? $("file");
    this.item.remove();
    $("none").hidden = $("jobs").children.length > 0;
    next.focus();
    say(`${this.name}: removed`);
  }
}

const score = () => $("score").value.trim();

function send(file) {
  complain("");
  const job = new Job(file.name);
  const query = new URLSearchParams({ name: file.name, preview: "true" });
  if (score()) query.set("score", score());
  const request = new XMLHttpRequest(); // fetch shows no progress of uploads
  job.request = request;
  request.open("POST", `/v1/jobs?${query}`);
  request.setRequestHeader("Content-Type", file.type.startsWith("video/") ? file.type : "application/octet-stream");
  request.upload.onprogress = (event) => job.advance(event.lengthComputable ? event.loaded / event.total : null);
  request.responseType = "json";
  request.onload = () => {
    job.request = null;
    if (request.status === 202) job.follow(request.response);
    else job.enter("failed", request.response?.error ?? `the service answers ${request.status}`);
  };
  request.onerror = () => job.enter("failed", "the connection broke off");
  request.send(file);
}

async function fetchFrom(url) {
  complain("");
  const body = { url, preview: true };
  if (score()) body.score = Number(score());
  const answer = await fetch("/v1/jobs", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }).catch(() => null);
  if (!answer) return complain("the service does not answer");
  if (!answer.ok) return complain(await reasonOf(answer));
  const told = await answer.json();
  new Job(told.video).follow(told);
  $("url").value = "";
}

$("file").addEventListener("change", () => { [...$("file").files].forEach(send); $("file").value = ""; });
$("send").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("url").value) fetchFrom($("url").value);
  else complain("Choose a video, or give its address.");
});
$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/v1/login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: $("token").value }) });
  complain(answer.ok ? "" : await reasonOf(answer));
  $("token").value = "";
  if (answer.ok) introduce();
});
for (const kind of ["dragenter", "dragover"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => [...event.dataTransfer.files].forEach(send));
introduce();
