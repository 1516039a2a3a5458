"""Define the command line's verbs that belong to runtime, one module each: `runtime.commands.<verb>:add_<verb>`.

The folders hold what verbs share (`flags`) and the parts of the long ones.
"""
