"""tocsin schedules Python callables to run later, once or periodically."""
