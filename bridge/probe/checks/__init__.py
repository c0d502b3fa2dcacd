"""The checks; each raises `Lacking` if it observes something else."""
