"""Define the command line's verbs that belong to runtime, one module each: `runtime.commands.<verb>:add_<verb>`."""
