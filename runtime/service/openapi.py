"""Describe the interface of the service in OpenAPI 3.1, for clients that are made from it."""

from __future__ import annotations

from typing import Any

import runtime

Part = dict[str, Any]

NUMBER: Part = {"type": "number"}
TEXT: Part = {"type": "string"}
SECONDS: Part = {"type": "number", "minimum": 0}
SHARE: Part = {"type": "number", "minimum": 0, "maximum": 1}
OPTIONS: dict[str, Part] = {
    "score": SHARE | {"description": "Lowest score of a detection; default: the model's threshold."},
    "exclusive": {
        "type": "string",
        "enum": ["none", "class", "all"],
        "description": "Detections that may not overlap.",
    },
    "merge_gap": SECONDS | {"description": "Longest gap between two detections of a class that become one."},
    "min_length": SECONDS | {"description": "Shortest detection in seconds."},
    "fps": NUMBER | {"exclusiveMinimum": 0, "description": "Frames per second, in place of time stamps."},
    "allow_truncated": {"type": "boolean", "description": "Read a file that ends early as far as possible."},
    "preview": {"type": "boolean", "description": "Make a copy that browsers play of a video that they do not."},
}
"""Options of a job, which `JobOptions` has."""


def describe_service() -> Part:
    """Return the description, of what JSON holds."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "afsd serve",
            "version": runtime.__version__,
            "summary": "Find which actions happen in a video, and when.",
            "description": "Send a video, follow its job, fetch its detections. WebSocket /v1/live takes frames; "
            "docs/service.md describes its messages, which OpenAPI cannot.",
        },
        "security": [{}, {"bearer": []}, {"cookie": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "afsd_token"},
            },
            "schemas": _schemas(),
            "responses": {"Refused": _answer("The request is refused; the reason is one line.", _ref("Refusal"))},
        },
    }


def _paths() -> Part:
    job = "/v1/jobs/{id}"
    video = {"schema": {"type": "string", "format": "binary"}}
    created = _answer("The job, which waits for a worker.", _ref("Job")) | {
        "headers": {"Location": {"description": "Address of the job.", "schema": TEXT}}
    }
    named = [_query("name", TEXT, "Name of the video, which is shown and never opened.")]
    options = [_query(name, schema, str(schema["description"])) for name, schema in OPTIONS.items()]
    html = {"description": "The page.", "content": {"text/html": {"schema": TEXT}}}
    plain = {"description": "Yes.", "content": {"text/plain": {"schema": TEXT}}}
    stream = "Server-sent events: state, progress, detections, warning; at last done, failed or cancelled."
    return {
        "/": {"get": _operation("startPage", "Show the page where a person drops a video", {"200": html})},
        "/assets/{name}": {
            "parameters": [_in_path("name")],
            "get": _operation("asset", "Load a part of the start page", {"200": {"description": "The part."}}, "404"),
        },
        "/v1/login": {
            "post": _operation(
                "login", "Give a browser that has the token a cookie", {"204": {"description": "Set."}}, "401"
            )
            | {"requestBody": _json_body({"type": "object", "required": ["token"], "properties": {"token": TEXT}})}
        },
        "/v1/model": {
            "get": _operation(
                "model", "Say what the model knows, and the limits", {"200": _answer("The model.", _ref("Model"))}
            )
        },
        "/v1/jobs": {
            "post": _operation(
                "createJob",
                "Detect in a video that is sent, fetched, or on the service's disk",
                {"202": created},
                "400",
                "403",
                "404",
                "408",
                "413",
                "415",
                "429",
                "503",
                "507",
            )
            | {
                "parameters": named + options,
                "requestBody": {
                    "required": True,
                    "content": {
                        "video/*": video,
                        "application/octet-stream": video,
                        "multipart/form-data": {"schema": _ref("Form")},
                        "application/json": {"schema": _ref("JobRequest")},
                    },
                },
            }
        },
        job: {
            "parameters": [_in_path("id")],
            "get": _operation(
                "getJob", "Say how a job stands", {"200": _answer("The job.", _ref("Job"))}, "404", "410"
            ),
            "delete": _operation(
                "deleteJob", "Cancel a job and remove it", {"204": {"description": "Removed."}}, "404", "410"
            ),
        },
        f"{job}/result": {
            "parameters": [_in_path("id")],
            "get": _operation(
                "getResult",
                "Fetch the detections, as afsd detect --json prints them",
                {"200": _answer("The detections.", _ref("Result"))},
                "404",
                "409",
                "410",
            ),
        },
        f"{job}/report": {
            "parameters": [_in_path("id")],
            "get": _operation(
                "getReport", "Fetch a page with video, timeline and table", {"200": html}, "404", "409", "410"
            ),
        },
        f"{job}/video": {
            "parameters": [_in_path("id"), {"name": "Range", "in": "header", "schema": TEXT}],
            "get": _operation(
                "getVideo",
                "Fetch the video, or a range of its bytes",
                {
                    number: {"description": words, "content": {"video/*": video}}
                    for number, words in (("200", "The video."), ("206", "The range."))
                },
                "404",
                "409",
                "410",
            ),
        },
        f"{job}/events": {
            "parameters": [
                _in_path("id"),
                {
                    "name": "Last-Event-ID",
                    "in": "header",
                    "schema": {"type": "integer", "minimum": 0},
                    "description": "Number of the event seen last; those behind it are sent.",
                },
                _query(
                    "after", {"type": "integer", "minimum": 0}, "As Last-Event-ID, for clients that set no headers."
                ),
            ],
            "get": _operation(
                "followJob",
                "Follow a job",
                {"200": {"description": stream, "content": {"text/event-stream": {"schema": TEXT}}}},
                "400",
                "404",
                "410",
                "503",
            ),
        },
        "/v1/live": {
            "get": _operation(
                "liveSocket",
                "Open a WebSocket that takes frames",
                {"101": {"description": "The protocol changes to WebSocket."}},
                "403",
            ),
            "post": _operation(
                "liveStream",
                "Detect in a container, such as MPEG-TS, while it is being sent",
                {
                    "200": {
                        "description": "An event in JSON in each line, while the body comes.",
                        "content": {"application/x-ndjson": {"schema": TEXT}},
                    }
                },
                "400",
                "403",
                "409",
                "429",
                "503",
            )
            | {
                "parameters": named + options + [_query("settle_s", NUMBER, "Longest wait of a detection.")],
                "requestBody": {"required": True, "content": {"video/*": video, "application/octet-stream": video}},
            },
        },
        "/healthz": {"get": _operation("health", "Say that the service lives", {"200": plain}, "503")},
        "/readyz": {
            "get": _operation("ready", "Say whether jobs are taken and a worker is open", {"200": plain}, "503")
        },
        "/metrics": {"get": _operation("metrics", "Show numbers for Prometheus", {"200": plain})},
        "/openapi.json": {
            "get": _operation("openapi", "Show this description", {"200": _answer("It.", {"type": "object"})})
        },
    }


def _schemas() -> Part:
    words: Part = {"type": "array", "items": TEXT}
    detection = _object(
        {"label": TEXT, "score": SHARE, "segment": {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2}},
        "label",
        "score",
        "segment",
    )
    states = ["receiving", "fetching", "queued", "running", "done", "failed", "cancelled"]
    maybe: Part = {"oneOf": [{"type": "object"}, {"type": "null"}]}
    return {
        "Refusal": _object({"error": TEXT}, "error"),
        "Detection": detection,
        "Result": _object(
            {
                "version": TEXT,
                "results": {"type": "object", "additionalProperties": {"type": "array", "items": _ref("Detection")}},
                "external_data": {"type": "object"},
            },
            "version",
            "results",
        ),
        "JobRequest": _object(
            {
                "url": {"type": "string", "format": "uri", "description": "http or https; fetched by the service."},
                "path": {"type": "string", "description": "Path in the service's folder, if it has one."},
                "name": TEXT,
                **OPTIONS,
            }
        )
        | {"oneOf": [{"required": ["url"]}, {"required": ["path"]}]},
        "Form": _object({"video": {"type": "string", "format": "binary"}, "name": TEXT, **OPTIONS}, "video"),
        "Job": _object(
            {
                "id": TEXT,
                "state": {"type": "string", "enum": states},
                "video": TEXT,
                "source": TEXT,
                "created": {"type": "string", "format": "date-time"},
                "score": SHARE,
                "seconds_waited": SECONDS,
                "seconds_run": SECONDS,
                "progress": maybe,
                "detections": {"type": "integer", "minimum": 0},
                "reason": TEXT,
                "warnings": words,
                "urls": {"type": "object", "additionalProperties": TEXT},
            },
            "id",
            "state",
            "urls",
        ),
        "Model": _object(
            {
                "model": TEXT,
                "classes": words,
                "threshold": SHARE,
                "score": SHARE,
                "demonstration": TEXT,
                "fps": NUMBER,
                "window_s": NUMBER,
                "version": TEXT,
                "limits": {"type": "object"},
            },
            "model",
            "classes",
        ),
    }


def _object(properties: Part, *required: str) -> Part:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


def _ref(name: str) -> Part:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Part) -> Part:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _json_body(schema: Part) -> Part:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _operation(name: str, summary: str, answers: Part, *refused: str) -> Part:
    refusals = {status: {"$ref": "#/components/responses/Refused"} for status in refused}
    return {"operationId": name, "summary": summary, "responses": answers | refusals}


def _query(name: str, schema: Part, description: str) -> Part:
    plain = {key: value for key, value in schema.items() if key != "description"}
    return {"name": name, "in": "query", "schema": plain, "description": description}


def _in_path(name: str) -> Part:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}
