cimport cython
from libc.stdint cimport int64_t, uint64_t
from tocsin.engine cimport capi, civil
from tocsin.engine.schedule cimport Schedule
from tocsin.engine.zone cimport Segment

cdef class CronSchedule(Schedule):
    cdef readonly bint once, either
    cdef readonly uint64_t seconds, minutes, hours, days, from_end, nearest, day_nth
    cdef readonly uint64_t weekdays, weekday_nth, weeks, months
    cdef readonly object years
    cdef uint64_t first_second, last_second, first_time, last_time
    cdef uint64_t cached

    # Inline are those that no subclass replaces: they are called without looking them up.
    @cython.locals(segment=Segment, local=int64_t, second=uint64_t, found=uint64_t)
    cdef int64_t following(self, int64_t instant) except? -1
    @cython.locals(segment=Segment, local=int64_t, found=uint64_t)
    cdef int64_t preceding(self, int64_t instant) except? -1
    @cython.locals(found=uint64_t, local=int64_t, passed=int64_t, instant=int64_t, start=int64_t)
    cdef inline int64_t following_literally(self, Segment segment, uint64_t second) except? -1
    @cython.locals(found=uint64_t, passed=int64_t, instant=int64_t, end=int64_t, later=Segment)
    cdef inline int64_t preceding_literally(self, Segment segment, int64_t local) except? -1
    @cython.locals(
        day=uint64_t, date=uint64_t, year=uint64_t, month=uint64_t, days=uint64_t, time=uint64_t,
        months=uint64_t,
    )
    cdef inline uint64_t next_local(self, uint64_t second) except? 1
    @cython.locals(
        day=uint64_t, date=uint64_t, year=uint64_t, month=uint64_t, bit=uint64_t, days=uint64_t,
        time=int64_t, months=uint64_t, one=uint64_t,
    )
    cdef inline uint64_t previous_local(self, uint64_t second) except? 1
    @cython.locals(hour=uint64_t, minute=uint64_t, rest=uint64_t)
    cdef inline uint64_t next_time(self, uint64_t time) noexcept nogil
    @cython.locals(one=uint64_t, hour=uint64_t, minute=uint64_t, rest=uint64_t)
    cdef inline int64_t previous_time(self, uint64_t time) noexcept nogil
    @cython.locals(years=object)
    cdef inline bint has_year(self, uint64_t year) except -1
    @cython.locals(years=object)
    cdef inline uint64_t year_from(self, uint64_t year) except? 10000
    @cython.locals(years=object, mask=object)
    cdef inline uint64_t year_until(self, object year) except? 10000
    @cython.locals(
        cached=uint64_t, first=uint64_t, days=uint64_t, date=uint64_t, year=uint64_t,
        month=uint64_t,
    )
    cdef inline uint64_t days_from(self, uint64_t day) except? 0xFFFFFFFF
    @cython.locals(first=uint64_t, cached=uint64_t, mask=uint64_t)
    cdef inline uint64_t days_of(self, uint64_t year, uint64_t month) noexcept nogil
    @cython.locals(
        start=uint64_t, one=uint64_t, by_day=uint64_t, week=uint64_t, by_weekday=uint64_t,
        mask=uint64_t,
    )
    cdef inline uint64_t month_mask(self, uint64_t first, uint64_t length) noexcept nogil

@cython.locals(one=uint64_t, mask=uint64_t, distance=uint64_t)
cdef uint64_t from_end_mask(uint64_t from_end, uint64_t length) noexcept nogil

@cython.locals(one=uint64_t, mask=uint64_t, target=uint64_t, day=uint64_t, weekday=uint64_t)
cdef uint64_t nearest_mask(uint64_t nearest, uint64_t length, uint64_t start) noexcept nogil

@cython.locals(one=uint64_t, mask=uint64_t, weekday=uint64_t, day=uint64_t, n=uint64_t)
cdef uint64_t nth_mask(uint64_t nth, uint64_t length, uint64_t start) noexcept nogil

@cython.locals(one=uint64_t, mask=uint64_t, day=uint64_t)
cdef uint64_t week_mask(uint64_t weeks, uint64_t first, uint64_t length) noexcept nogil
