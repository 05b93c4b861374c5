"""A decoder for tests that crashes or hangs over files of these names."""

import os
import time

from imitate.data.decoding import Decoder
from imitate.data.jobs import Decoded, Job
from imitate.data.worker import Failure


class Fragile(Decoder):
    def __call__(self, job: Job) -> Decoded | Failure:
        if job.image.stem == "crash":
            os.abort()
        if job.image.stem == "hang":
            time.sleep(600)
        return super().__call__(job)
