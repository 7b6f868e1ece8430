"""Integers only: civil calendar, zones, schedules, the heap of due jobs.

Every module with a ``.pxd`` beside it is compiled at installation when there is a C compiler;
the very same file is the interpreted fallback, with the same results bit for bit. Nothing here
knows a trigger, a job or a scheduler, and nothing here imports the rest of tocsin.

An *instant* is a count of microseconds since 1970-01-01T00:00Z, in 64 bits. A *local time* is
such a count read from a wall clock, as if it were UTC.
"""
