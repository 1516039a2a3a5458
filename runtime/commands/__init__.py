"""The verbs of the command line that belong to runtime: one module each, `runtime.commands.<verb>:add_<verb>`."""
