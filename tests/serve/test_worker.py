import asyncio
import threading

import pytest
from processes import HANG

from imitate.inference.known_words import remarks
from imitate.serve.worker import Full, Places, Worker


def test_places_are_given_back():
    places = Places(1)
    with places.taken("a"), pytest.raises(Full), places.taken("b"):
        pass
    with pytest.raises(ZeroDivisionError), places.taken("a"):
        raise ZeroDivisionError
    with places.taken("a"):
        assert places.free == 0


def test_an_address_takes_half_of_the_places():
    places = Places(8)
    with places.taken("a", 3), places.taken("a"):
        with pytest.raises(Full), places.taken("a"):
            pass
        with places.taken("b", 4):
            assert places.free == 0
    with places.taken("a", 4):
        assert places.free == 4
    with places.taken("a", 0) as take:
        take(3)
        take(1)
        assert places.free == 4
        with pytest.raises(Full):
            take(1)
    assert places.free == 8 and not places._taken


def test_one_job_at_a_time_while_the_loop_goes_on():
    running, most, asked = 0, 0, threading.Event()

    def job() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        asked.wait(HANG)
        running -= 1
        return threading.current_thread().name

    async def every():
        worker = Worker()
        jobs = asyncio.gather(*(worker.run(job, str(number)) for number in range(4)))
        await asyncio.sleep(0)  # the loop goes on
        assert not jobs.done()
        asked.set()
        return await jobs

    names = [name for name, _ in asyncio.run(every())]
    assert most == 1 and set(names) == {"model_0"}


def test_full_where_too_many_wait():
    ready = threading.Event()

    async def every():
        worker = Worker(waiting=2)
        jobs = [asyncio.create_task(worker.run(lambda: ready.wait(HANG), name)) for name in "abc"]
        await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        ready.set()
        first = await asyncio.gather(*jobs, return_exceptions=True)
        return first, await worker.run(lambda: "again", "a")

    first, again = asyncio.run(every())
    assert [isinstance(each, Full) for each in first] == [False, False, True]
    assert again == ("again", [])


def test_remarks_on_words_go_to_who_wrote_them(caplog):
    def job() -> None:
        for _ in range(2):  # to be said once
            remarks.warning("ignores %s", "zzz")

    async def asking():
        return await Worker().run(job, "a")

    assert asyncio.run(asking()) == (None, ["ignores zzz"])
    assert not caplog.records
    remarks.warning("outside")
    assert [record.getMessage() for record in caplog.records] == ["outside"]
