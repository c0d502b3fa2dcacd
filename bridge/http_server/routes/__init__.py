"""The URLs that are served."""
