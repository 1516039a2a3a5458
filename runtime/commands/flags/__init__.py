"""Define the flags that several verbs have, and check those that are given."""
