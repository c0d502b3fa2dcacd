"""The rules of a request, once, for every way in. Pure."""
