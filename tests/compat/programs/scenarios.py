"""What the programs have in common: scenarios by name, and notes to wait for."""

import threading

#: The longest that anything may take, in seconds.
PATIENCE = 20


class Scenarios(dict):
    """The scenarios of a program; as a decorator it adds a function by its name."""

    def __call__(self, function):
        self[function.__name__] = function
        return function


class Notes:
    """What jobs or listeners note, in any thread."""

    def __init__(self):
        self._notes = []
        self._arrived = threading.Condition()

    def add(self, note):
        with self._arrived:
            self._notes.append(note)
            self._arrived.notify_all()

    def wait_for(self, count):
        """Wait for so many, and give all."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self._notes) >= count, PATIENCE), self._notes
            return list(self._notes)

    def take(self, count):
        """Wait for so many, give all, and forget them."""
        with self._arrived:
            found = self.wait_for(count)
            self._notes.clear()
        return found

    def clear(self):
        with self._arrived:
            self._notes.clear()


def listen(scheduler, mask):
    """Listen to a scheduler; give what waits for so many events."""
    heard = Notes()
    scheduler.add_listener(heard.add, mask)
    return heard.wait_for
