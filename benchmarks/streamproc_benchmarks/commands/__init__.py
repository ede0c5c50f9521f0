"""The commands of `streamproc bench`, one module a scenario; options they share are beside it."""
