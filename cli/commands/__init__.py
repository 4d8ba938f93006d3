"""One file a command: it parses, calls one function, prints. Imports `options` and `output`, never `main`."""
