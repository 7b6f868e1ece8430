cimport cython
from libc.stdint cimport int64_t
from tocsin.engine cimport civil

@cython.final
cdef class Segment:
    cdef readonly int64_t start, end, offset, floor

@cython.final
cdef class Zone:
    cdef readonly object tz
    cdef object _lock
    cdef list _marks
    cdef object _sampled
    cdef Segment _hit
    cdef tuple _segments
    cdef object __weakref__

    @cython.locals(
        hit=Segment, segment=Segment, segments=tuple, low=int64_t, last=int64_t, middle=int64_t,
    )
    cpdef Segment at(self, int64_t instant)
    @cython.locals(
        hit=Segment, segment=Segment, segments=tuple, low=int64_t, last=int64_t, middle=int64_t,
        day=int64_t,
    )
    cpdef Segment reaching(self, int64_t local)
    @cython.locals(segment=Segment, segments=tuple)
    cdef tuple _table(self, int64_t low, int64_t high)
