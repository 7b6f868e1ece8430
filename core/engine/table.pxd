cimport cython
from libc.stdint cimport int64_t
from tocsin.engine cimport civil
from tocsin.engine.heap cimport DueHeap, Entry

cdef inline int64_t absent() noexcept
cdef inline int64_t claimed() noexcept

@cython.final
cdef class DueTable:
    cdef dict _entries
    cdef DueHeap _heap
    cdef object __weakref__

    cpdef object get(self, object key)
    cpdef list entries(self)
    @cython.locals(known=dict, replaced=list, item=object, key=object, old=object, added=object)
    cpdef list add(self, object entries, bint replace)
    cpdef object put(self, object item)
    @cython.locals(entry=Entry)
    cpdef object move(self, object item, object instant)
    cpdef object remove(self, object key)
    @cython.locals(item=object, entry=Entry)
    cpdef object clear(self)
    cpdef list due(self, object now)
    cpdef object peek(self)
    @cython.locals(instant=int64_t, found=list, item=object, entry=Entry)
    cpdef list claim(self, object now, int64_t limit)
    @cython.locals(held=list, item=object, _=object, following=object, entry=Entry, holds=bint)
    cpdef list advance(self, object claims)
    @cython.locals(entry=Entry)
    cpdef object release(self, object item, object until)
    @cython.locals(entry=Entry, holds=bint)
    cpdef bint hold(self, object item) except -1
    @cython.locals(entry=Entry)
    cdef object _wait(self, object item, object instant)
    @cython.locals(entry=Entry)
    cdef object _drop(self, object item)
