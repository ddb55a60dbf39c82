"""What is one for all threads is off for as long as any of them needs it off."""

import threading

from mmexplain.switches import Switch, switched_off


def test_the_last_of_several_threads_switches_back():
    state = {"on": "as the user had it"}
    switch = Switch(lambda: state.pop("on"), lambda before: state.update(on=before))
    first_in, second_in, first_out = (threading.Event() for _ in range(3))
    seen = []

    def first():
        with switched_off(switch):
            first_in.set()
            assert second_in.wait(20)
        seen.append(dict(state))
        first_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert first_in.wait(20)
    with switched_off(switch):
        second_in.set()
        assert first_out.wait(20)
        assert state == {}
    thread.join()
    assert seen == [{}]
    assert state == {"on": "as the user had it"}


def test_an_exception_switches_back():
    state = {"on": True}
    switch = Switch(lambda: state.pop("on"), lambda before: state.update(on=before))
    try:
        with switched_off(switch):
            raise KeyError
    except KeyError:
        pass
    assert state == {"on": True}
