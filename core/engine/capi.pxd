# The C side of capi.py: inline functions, so nothing is imported at run time.
from cpython.array cimport array
from cpython.datetime cimport datetime_new, import_datetime
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from *:
    """
    #if defined(_MSC_VER)
      #include <intrin.h>
      static __inline int tocsin_lowest_bit(unsigned long long mask) {
          unsigned long index = 0; _BitScanForward64(&index, mask); return (int)index;
      }
      static __inline int tocsin_highest_bit(unsigned long long mask) {
          unsigned long index = 0; _BitScanReverse64(&index, mask); return (int)index;
      }
    #else
      #define tocsin_lowest_bit(mask) __builtin_ctzll(mask)
      #define tocsin_highest_bit(mask) (63 - __builtin_clzll(mask))
    #endif
    """
    int lowest_bit "tocsin_lowest_bit" (uint64_t mask) noexcept nogil
    int highest_bit "tocsin_highest_bit" (uint64_t mask) noexcept nogil

cdef extern from *:
    """
    static CYTHON_INLINE long long tocsin_exact_int(PyObject *number) {
        int overflow = 1;
        long long value = 0;
        if (PyLong_CheckExact(number)) value = PyLong_AsLongLongAndOverflow(number, &overflow);
        return overflow ? -0x7FFFFFFFFFFFFFFFLL - 1 : value;
    }
    """
    int64_t exact_int "tocsin_exact_int" (object number) noexcept


cdef inline int load_datetime() except -1:
    import_datetime()
    return 0


cdef inline object make_datetime(
    int year, int month, int day, int hour, int minute, int second, int microsecond,
    object zone, int fold,
):
    return datetime_new(year, month, day, hour, minute, second, microsecond, zone, fold)


cdef inline int64_t* int64s(array numbers) noexcept:
    return <int64_t*> numbers.data.as_longlongs


cdef inline int32_t* int32s(array numbers) noexcept:
    return <int32_t*> numbers.data.as_ints
