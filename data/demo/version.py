"""The version of the demo data set, apart from what makes it: configs ask for it without loading an image library."""

# Names the directory that the set is kept in: raise it whenever a byte of the contents changes.
VERSION = "demo-v1"
