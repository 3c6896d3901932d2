"""What an owner keeps through a session, so that its process can end and come back: one secret and one number."""

import os
from pathlib import Path

from mpcdp.errors import ConfigError
from mpcdp.private_files import make_private_file, write_private_file
from mpcdp.secret_sharing.randomness import KEY_BYTES, derive_key, random_key

__all__ = ["OwnerSecret"]

_ANSWERED_BYTES = 8


class OwnerSecret:
    """A 256-bit secret of one owner for one task, on disk before it is used.

    Everything an owner draws in a session follows from it: mask keys, nonces, samples of its records. So a process that
    is started again repeats what it sent, instead of sending something else under the same mask.

    Args:
        folder: the owner's state folder; made if missing, for its user alone.
        task_digest: 32 bytes; a task runs in one session only.

    Raises:
        ConfigError: the folder cannot be used, or the file in it is damaged.
    """

    def __init__(self, folder: Path, task_digest: bytes) -> None:
        self._path = _path(folder, task_digest)
        self._answered_path = self._path.with_suffix(".answered")
        try:
            self.kept = self._path.exists()
            """Whether an earlier process of this owner made it: this one comes back to a session."""
            if not self.kept:
                write_private_file(self._path, random_key())
            self._secret = self._path.read_bytes()
            make_private_file(self._answered_path)
            self._answered = int.from_bytes(self._answered_path.read_bytes()[:_ANSWERED_BYTES], "big")
        except OSError as error:
            raise ConfigError(f"state folder {folder}: {error}; give this process a folder it can write") from error
        if len(self._secret) != KEY_BYTES:
            raise ConfigError(f"{self._path} is damaged: agree on a new task, with a name of its own")

    @staticmethod
    def is_kept(folder: Path, task_digest: bytes) -> bool:
        """Tell whether a process of this owner would come back to a session of the task; changes nothing."""
        return _path(folder, task_digest).exists()

    def __repr__(self) -> str:
        return "OwnerSecret(<redacted>)"

    @property
    def nonce_key(self) -> bytes:
        """Key of `mpcdp.secret_sharing.additive.mask_nonce`."""
        return derive_key(self._secret, salt=b"", purpose="mask nonces")

    def mask_key(self, session: bytes, party: str) -> bytes:
        """Return the key of one compute party's masks in a session, 32 bytes."""
        return derive_key(self._secret, salt=session, purpose=f"mask key/{party}")

    def round_key(self, round_index: int) -> bytes:
        """Return the key of what a method draws at random in one round, 32 bytes."""
        return derive_key(self._secret, salt=b"", purpose=f"contribution/{round_index}")

    @property
    def answered(self) -> int:
        """The first round for which no upload was answered: shares for earlier rounds are never sent again."""
        return self._answered

    def note_answered(self, rounds: int) -> None:
        """Remember that uploads for all rounds before this one were answered; it survives a crash of this process."""
        self._answered = max(self._answered, rounds)
        descriptor = os.open(self._answered_path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, self._answered.to_bytes(_ANSWERED_BYTES, "big"), 0)
        finally:
            os.close(descriptor)

    def destroy(self) -> None:
        """Delete it: the session is over."""
        self._path.unlink(missing_ok=True)
        self._answered_path.unlink(missing_ok=True)


def _path(folder: Path, task_digest: bytes) -> Path:
    return folder / f"session-{task_digest.hex()[:32]}.secret"
