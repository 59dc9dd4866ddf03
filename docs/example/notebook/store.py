"""A notebook: keys to values, one record a page, in one extent of a zoned device.

    put    appends a record; it is there after any crash once the next barrier has passed
    sync   passes a barrier
"""


class Note:
    """What `Notebook.put` gives back: has a barrier passed the record?"""

    persistent = False

    def is_persistent(self):
        return self.persistent

    def is_failed(self):
        return False


class Notebook:
    def __init__(self, device):
        self.device = device
        self.entries = {}
        self.notes = []
        device.barrier()  # what is read now must survive the next crash
        for page in range(device.write_pointer(0)):
            record = device.read(0, page, 1)
            end = 2 + record[0]
            self.entries[record[2:end]] = record[end : end + record[1]]

    def put(self, key, value):
        record = bytes([len(key), len(value)]) + key + value
        page = self.device.write_pointer(0)
        self.device.write(0, page, record.ljust(self.device.page_size_bytes, b"\0"))
        self.entries[key] = value
        self.notes.append(Note())
        return self.notes[-1]

    def get(self, key):
        return self.entries.get(key)

    def sync(self):
        self.device.barrier()
        for note in self.notes:
            note.persistent = True

    shutdown = sync


class Model:
    """What a notebook should be: a dictionary."""

    def __init__(self):
        self.entries = {}

    def put(self, key, value):
        self.entries[key] = value

    def get(self, key):
        return self.entries.get(key)
