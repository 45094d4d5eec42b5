"""Signals are noted at any time, acted on where nothing is lost; each case in a process of its own."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pretrain.signals import exit_code


def program(body):
    """Runs ``body`` in a fresh interpreter that listens; its output, error output and exit code."""
    head = """
        import os, signal, sys, time
        from pretrain import signals
        from pretrain.signals import SIGNALS, Interrupted, Stopped
        SIGNALS.listen()
        me = os.getpid()
    """
    code = textwrap.dedent(head) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    return done.stdout.split(), done.stderr, done.returncode


def test_listening_needs_no_torch():
    out, error, _ = program("print('torch' in sys.modules, SIGNALS.received)")
    assert out == ["False", "0"], error


def test_the_command_line_listens_before_it_imports_what_takes_long():
    body = """
    import signal, sys
    from pretrain import cli, signals
    def told(arguments):
        print(*(signal.getsignal(n) == signals.SIGNALS._note for n in signals.heeded()), len(signals.heeded()))
    cli._train = told
    cli.main([])
    print("torch" in sys.modules)
    """
    code = [sys.executable, "-c", textwrap.dedent(body)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=240, check=True)
    *found, count, torch = done.stdout.split()
    assert (found, torch) == (["True"] * int(count), "False")
    assert int(count) >= 4  # the end of a terminal is not among them where whoever started the tests has said nohup


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_start_stops_between_its_stages(number):
    out, error, code = program(f"""
        os.kill(me, {int(number)})
        try:
            SIGNALS.check()
        except Stopped as stopped:
            print(stopped.number, SIGNALS.requeueing)
            sys.exit(signals.exit_code(stopped.number))
    """)
    assert out == [str(int(number)), str(number in (signal.SIGUSR1, signal.SIGUSR2))], error
    assert code == (130 if number == signal.SIGINT else 143) == exit_code(number)


def test_the_first_signal_names_the_end_and_a_later_one_still_wants_the_job_back():
    out, error, _ = program("""
        os.kill(me, signal.SIGTERM); os.kill(me, signal.SIGUSR1); os.kill(me, signal.SIGINT)
        print(SIGNALS.received, SIGNALS.requeueing)
    """)
    assert out == ["15", "True"], error


def test_a_signal_that_comes_while_one_is_being_noted_is_not_the_first():
    out, error, _ = program("""
        insist = SIGNALS._insist
        SIGNALS._insist = lambda: (signal.raise_signal(signal.SIGTERM), insist())
        os.kill(me, signal.SIGINT)
        print(SIGNALS.received)
    """)
    assert out == ["2"], error


def test_a_stuck_start_ends():
    _, error, code = program("""
        signals.START_GRACE_S = 0.3
        os.kill(me, signal.SIGTERM)
        while True:
            time.sleep(10)
    """)
    assert code == 143
    assert "pretrain: stopped by SIGTERM while it started; the same command continues" in error


def test_a_start_that_was_signalled_and_then_trains_is_left_alone():
    out, error, code = program("""
        signals.START_GRACE_S = 0.2
        os.kill(me, signal.SIGTERM)
        SIGNALS.running = True
        time.sleep(0.5)
        print("alive")
    """)
    assert (out, code) == (["alive"], 0), error


def test_a_wait_is_cut_short():
    out, error, _ = program("""
        import threading
        SIGNALS.running = True
        threading.Timer(0.2, os.kill, (me, signal.SIGTERM)).start()
        began = time.monotonic()
        try:
            with SIGNALS.cutting_short():
                time.sleep(30)
        except Interrupted:
            print(time.monotonic() - began < 20)
        try:
            with SIGNALS.cutting_short():  # and is not begun again
                print("begun")
        except Interrupted:
            print("left")
        time.sleep(0)
        os.kill(me, signal.SIGTERM)  # outside nothing is cut
        print("outside")
    """)
    assert out == ["True", "left", "outside"], error


def test_a_wait_with_patience_ends_after_it():
    out, error, _ = program("""
        import threading
        SIGNALS.running = True
        threading.Timer(0.1, os.kill, (me, signal.SIGINT)).start()
        began = time.monotonic()
        with SIGNALS.cutting_short(1.0):
            time.sleep(0.4)  # what comes in time is taken
        print("taken")
        try:
            with SIGNALS.cutting_short(1.0):
                time.sleep(30)
        except Interrupted:
            print(0.9 < time.monotonic() - began < 20)
        os.kill(me, signal.SIGINT)  # the wake-up was no second Ctrl-C
        print("alive")
    """)
    assert out == ["taken", "True", "alive"], error


def test_ctrl_c_again_and_again_ends_at_once():
    out, error, code = program("""
        signals._SAME_KEY_S = 0.05
        SIGNALS.running = True
        for _ in range(3):
            os.kill(me, signal.SIGINT)
            time.sleep(0.1)
        print("still here")
    """)
    assert code == -signal.SIGINT
    assert out == [], error


def test_one_ctrl_c_that_arrives_several_times_is_one():
    out, error, code = program("""
        SIGNALS.running = True
        for _ in range(5):
            os.kill(me, signal.SIGINT)
        print("alive")
    """)
    assert (out, code) == (["alive"], 0), error


def test_a_forked_child_notes_nothing():
    out, error, _ = program("""
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            print(SIGNALS.received, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(SIGNALS.received)
    """)
    assert out == ["0", "0"], error


def test_a_signal_while_the_program_is_imported_is_honoured(tmp_path):
    """From soon after the interpreter's start on; before that there is nothing that could be asked."""
    command = [sys.executable, "-m", "pretrain", "debug=smoke", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    end = time.monotonic() + 30
    while time.monotonic() < end:
        status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        caught = int(next(line for line in status if line.startswith("SigCgt")).split()[1], 16)
        if caught >> (signal.SIGUSR2 - 1) & 1:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=240)
    assert process.returncode == 143
    assert "stopped by SIGTERM before the first step; the same command continues" in error


def test_a_decoder_that_swallows_the_interruption_gives_no_sample():
    """libsndfile reads by calls into Python; what is raised there is printed and forgotten, and the file called bad."""
    out, error, _ = program("""
        import io
        import numpy, soundfile
        from pretrain.waiting import Patient

        class Reached(io.BytesIO):
            def read(self, *size):
                signal.raise_signal(signal.SIGTERM)
                return super().read(*size)

            def readinto(self, buffer):
                signal.raise_signal(signal.SIGTERM)
                return super().readinto(buffer)

        def batches():
            try:
                soundfile.read(file)
                yield "what follows from a sample that is whole"
            except soundfile.LibsndfileError:
                yield "what follows from a sample that is called damaged"

        whole = io.BytesIO()
        soundfile.write(whole, numpy.zeros(1600), 16000, format="FLAC")
        file = Reached(whole.getvalue())
        SIGNALS.running = True
        try:
            print(next(iter(Patient(batches(), 0.0, lambda: False))))
        except Interrupted:
            print("interrupted")
    """)
    assert out == ["interrupted"], error
    assert "Exception ignored" in error  # else nothing was swallowed, and this shows nothing
