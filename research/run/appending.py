"""A file that is begun anew and then grows by whole pieces: rows of metrics, points of curves.

It gets its name as every file does, by a rename, and grows through the descriptor that wrote it.
So a process that lost the folder, whenever it was stopped, appends to a file without a name, and
another user of the folder's group can go on, for whom the file that was there need not be writable.
In a bucket, where nothing is appended, the pieces wait for `flush`.
"""

import io
import os
from pathlib import Path

from research.errors import UserError
from research.run import buckets, record


class Appending:
    """The file `path`, begun with `content`.

    Raises:
        UserError: when it cannot be written.
        Lost: when another process has taken its folder.
    """

    def __init__(self, path: Path, content: bytes):
        self.path, self.content = path, content
        self.file: io.FileIO | None = None
        if not buckets.remote(path):
            self.file = record.begin(path, content)

    def add(self, piece: bytes) -> None:
        """Append `piece`, all of it or nothing.

        Raises:
            UserError: when it cannot be written.
        """
        if self.file is None:
            self.content += piece
            return
        end = self.file.tell()
        try:
            if self.file.write(piece) != len(piece):  # a disk that fills up takes a part
                raise OSError("No space left on device")
        except OSError as error:
            self.file.truncate(end)
            self.file.seek(end)
            raise self._refused(error) from error

    def flush(self) -> None:
        """Return once every piece is where it survives a power cut.

        Raises:
            UserError: when it cannot be written.
        """
        if self.file is None:
            return record.write_bytes(self.path, self.content)
        try:
            os.fsync(self.file.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def __del__(self) -> None:
        if self.file is not None:
            self.file.close()

    def _refused(self, error: OSError) -> UserError:
        record.guard(self.path)
        return UserError(f"cannot write {self.path}: {error.strerror or error}")
