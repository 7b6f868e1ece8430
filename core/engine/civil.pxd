cimport cython
from libc.stdint cimport int64_t, uint64_t
from tocsin.engine cimport capi

@cython.locals(leaps=uint64_t)
cpdef uint64_t days_from_civil(uint64_t year, uint64_t month, uint64_t day) noexcept nogil

@cython.locals(
    quarters=uint64_t, century=uint64_t, scaled=uint64_t, year=uint64_t, month=uint64_t, day=uint64_t,
)
cpdef uint64_t civil_from_days(uint64_t days) noexcept nogil

cpdef uint64_t month_length(uint64_t year, uint64_t month) noexcept nogil

cpdef uint64_t weekday(uint64_t days) noexcept nogil

@cython.locals(thursday=uint64_t, year=uint64_t)
cpdef uint64_t iso_week(uint64_t days) noexcept nogil

@cython.locals(days=uint64_t, micros=uint64_t)
cpdef uint64_t seconds_from_micros(int64_t local) noexcept nogil

@cython.locals(days=int64_t)
cpdef int64_t micros_from_seconds(int64_t seconds) noexcept nogil

@cython.locals(one=int64_t)
cpdef int64_t forever() noexcept nogil

@cython.locals(instant=int64_t, limit=int64_t, whole=object)
cdef int64_t checked(object number) except? -1
