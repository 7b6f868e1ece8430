cimport cython
from libc.stdint cimport int64_t, uint64_t
from tocsin.engine cimport civil
from tocsin.engine.schedule cimport Schedule
from tocsin.engine.zone cimport Segment

cdef class IntervalSchedule(Schedule):
    cdef readonly int64_t step

    @cython.locals(count=int64_t)
    cdef int64_t following(self, int64_t instant) except? -1
    @cython.locals(count=int64_t)
    cdef int64_t preceding(self, int64_t instant) except? -1

@cython.final
cdef class Interval:
    cdef readonly object units, text, length
    cdef readonly int64_t step

cdef class Steps:
    cdef public object _first, _jitter, _last
    cdef public Schedule _edge
    cdef public Interval _interval

@cython.locals(found=object, instant=int64_t, present=int64_t)
cdef object step_after(
    object first, object last, int64_t step, object previous, object now, Schedule edge,
)
@cython.locals(instant=int64_t, until=int64_t)
cdef object latest_step(object first, object last, int64_t step, object now)

cdef class CalendarSchedule(Schedule):
    cdef readonly int64_t anchor, month, day, months, days, time

    @cython.locals(segment=Segment, local=int64_t, found=int64_t)
    cdef int64_t following(self, int64_t instant) except? -1
    @cython.locals(segment=Segment, local=int64_t, count=int64_t, found=int64_t)
    cdef int64_t preceding(self, int64_t instant) except? -1
    @cython.locals(days=int64_t, count=int64_t)
    cdef inline int64_t count_until(self, int64_t local) noexcept nogil
    @cython.locals(month=int64_t, year=int64_t, length=int64_t, day=int64_t, days=int64_t)
    cdef inline int64_t nth(self, int64_t count) noexcept nogil
