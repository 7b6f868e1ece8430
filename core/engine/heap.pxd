cimport cython
from cpython.array cimport array
from libc.stdint cimport int32_t, int64_t
from tocsin.engine cimport capi, civil

cdef class Entry:
    cdef public int64_t _entry

@cython.final
cdef class DueHeap:
    cdef array _rows, _place
    cdef list _items
    cdef int64_t _size, _left, _free, _arrivals
    cdef object __weakref__

    cpdef object push(self, object instant, object item)
    @cython.locals(slot=int64_t, places="int32_t*", turn=int64_t)
    cdef int64_t add(self, int64_t when, object item) except -1
    cdef object pop(self, int64_t instant)
    @cython.locals(rows="int64_t*", slot=int64_t)
    cpdef object peek(self)
    @cython.locals(
        instant=int64_t, rows=array, turns=array, found=list, places=list, place=int64_t,
    )
    cpdef list due(self, object now)
    @cython.locals(instant=int64_t, most=int64_t, due=list, when=int64_t)
    cpdef list pop_due(self, object now, object limit=*)
    @cython.locals(when=int64_t, slot=int64_t)
    cpdef object rearm(self, object instant)
    @cython.locals(when=int64_t, slot=int64_t)
    cpdef object rekey(self, object handle, object instant)
    @cython.locals(slot=int64_t)
    cpdef object when(self, object handle)
    cpdef object remove(self, object handle)
    @cython.locals(slot=int64_t, places="int32_t*", item=object)
    cdef object take(self, int64_t handle)
    @cython.locals(rows="int64_t*", place=int64_t)
    cpdef object clear(self)
    @cython.locals(size=int64_t, more=int64_t, places="int32_t*", slot=int64_t)
    cdef object _grow(self)
    @cython.locals(number=int64_t, slot=int64_t, places="int32_t*")
    cdef int64_t _find(self, object handle) except -1
    @cython.locals(slot=int64_t)
    cdef object _clear_top(self)
    @cython.locals(rows="int64_t*", slot=int64_t, item=object, last=int64_t)
    cdef object _take_top(self)
    @cython.locals(
        rows="int64_t*", places="int32_t*", size=int64_t, place=int64_t, slot=int64_t,
        when=int64_t, order=int64_t,
    )
    cdef object _purge(self)
    @cython.locals(places="int32_t*", turn=int64_t)
    cdef object _release(self, int64_t slot)
    cdef object _settle(self, int64_t place, int64_t when, int64_t order, int64_t slot)

@cython.locals(start=int64_t, up=int64_t)
cdef void settle(
    int64_t* rows, int32_t* places, int64_t size, int64_t place, int64_t when, int64_t order,
    int64_t slot,
) noexcept nogil

@cython.locals(child=int64_t, end=int64_t, least=int64_t)
cdef void sink(
    int64_t* rows, int32_t* places, int64_t size, int64_t place, int64_t when, int64_t order,
    int64_t slot,
) noexcept nogil
