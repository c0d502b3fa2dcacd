"""The pool of CLI processes: who gets which, and which are started and ended."""
