cimport cython
from cpython.array cimport array
from cpython.datetime cimport datetime
from libc.stdint cimport int64_t, uint64_t
from tocsin.engine cimport capi, civil
from tocsin.engine.zone cimport Segment, Zone

cdef class Schedule:
    cdef readonly object tz
    cdef readonly Zone zone
    cdef readonly int64_t first, last

    cdef int64_t following(self, int64_t instant) except? -1
    cdef int64_t preceding(self, int64_t instant) except? -1
    @cython.locals(found=int64_t)
    cdef int64_t after(self, int64_t instant) except? -1
    @cython.locals(found=int64_t)
    cdef int64_t before(self, int64_t instant) except? -1
    @cython.locals(found=int64_t)
    cpdef object next(self, object after)
    @cython.locals(found=int64_t)
    cpdef object previous(self, object before)
    @cython.locals(
        instant=int64_t, end=int64_t, cells="int64_t*", size=cython.Py_ssize_t,
        count=cython.Py_ssize_t,
    )
    cpdef Py_ssize_t fill(self, array instants, object after, object until) except -1
    @cython.locals(
        moment=datetime, days=uint64_t, seconds=uint64_t, local=int64_t, segment=Segment,
        offset=object,
    )
    cpdef int64_t instant(self, object when) except? -1
    @cython.locals(
        segment=Segment, local=int64_t, seconds=uint64_t, micros=int64_t, days=uint64_t,
        date=uint64_t, time=uint64_t, hour=uint64_t, minute=uint64_t,
    )
    cpdef object moment(self, int64_t instant)
    @cython.locals(found=int64_t)
    cpdef object next_datetime(self, object after)
    @cython.locals(found=int64_t)
    cpdef object previous_datetime(self, object before)

@cython.final
cdef class FireTimes:
    cdef Schedule schedule
    cdef int64_t instant, until, left

cdef int64_t offset_micros(object offset) except? -1
