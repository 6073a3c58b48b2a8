# SPDX-License-Identifier: Apache-2.0
"""test_assistant.py MODEL PROGRAM...: the service of examples/assistant through bad days: clients that go, many at once,
garbage, stopping during an answer, and models that are missing or cut short. PROGRAM may begin with an emulator."""
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

model, program = sys.argv[1], sys.argv[2:]
LONG = "200" if len(program) == 1 else "40"  # tokens of an answer; an emulator takes its time
folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "socket")
questions = ["once upon a time", "the rest is", "and then there was a thing in the", "he said: " + "so it is, " * 20]


def check(good, what):
    if not good:
        sys.exit(f"FAILED: {what}")


class Service:
    def __init__(self, *options, model=model):
        self.process = subprocess.Popen([*program, "--model", model, "--socket", path, "--ctx", "1024", *options],
                                        stderr=subprocess.PIPE, text=True)
        self.said = ""
        while "listening" not in self.said:
            line = self.process.stderr.readline()
            self.said += line
            if not line:
                break

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        self.said += self.process.communicate(timeout=120)[1]
        return self.process.returncode


class Client:
    def __init__(self, text=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        if text is not None:
            self.ask(text)

    def ask(self, text):
        self.send(b"ask %d\n%s" % (len(text), text.encode()))

    def send(self, data):
        self.socket.sendall(data)

    def event(self):
        """(word, rest): text with its bytes, done and error with their line; (None, b"") at the end."""
        try:
            line = self.file.readline()
        except ConnectionResetError:
            line = b""
        if not line:
            return None, b""
        word, rest = line.rstrip(b"\n").split(b" ", 1)
        return word.decode(), self.file.read(int(rest)) if word == b"text" else rest

    def answer(self):
        """The text up to its end, and the line that ended it."""
        text = b""
        while True:
            word, rest = self.event()
            if word != "text":
                return text, word, rest
            text += rest

    def close(self):
        self.file.close()
        self.socket.close()


def alone(text):
    client = Client(text)
    got = client.answer()
    client.close()
    check(got[1] == "done", f"an answer: {got}")
    return got


def bad_models():
    for name, data in (("missing", None), ("cut", open(model, "rb").read()[:-1000]), ("empty", b"")):
        file = os.path.join(folder.name, name)
        if data is not None:
            with open(file, "wb") as f:
                f.write(data)
        service = Service(model=file)
        check(service.wait() == 1 and name in service.said, f"a {name} model: {service.said}")
        check(not os.path.exists(path), "a socket without a service")


def many_at_once(expected):
    clients = [Client(q) for q in questions]
    for client, want in zip(clients, expected):
        check(client.answer() == want, "an answer among four is not the same as alone")
    extra = Client()
    check(extra.event() == ("error", b"all places are taken"), "a fifth client is told that there is no place")
    for client in (*clients, extra):
        client.close()


def gone_and_cancelled(expected):
    """Clients go or cancel in the middle of an answer; the one beside them notices nothing."""
    beside = Client(questions[3])
    for pause in (0, 0.1):
        client = Client(questions[0])
        check(client.event()[0] == "text", "the beginning of an answer")
        time.sleep(pause)
        client.close()
    client = Client(questions[1])
    client.event()
    client.send(b"cancel\n")
    text, word, line = client.answer()
    check(word == "done" and line.startswith(b"cancelled "), f"cancel: {word} {line}")
    client.ask(questions[1])
    check(client.answer() == expected[1], "the answer after a cancelled one")
    check(beside.answer() == expected[3], "the answer beside clients that go")
    client.close()
    beside.close()


def half_closed(expected):
    client = Client(questions[0])
    client.socket.shutdown(socket.SHUT_WR)
    check(client.answer() == expected[0], "the answer to a client that has said its last word")
    check(client.event()[0] is None, "then the connection ends")
    client.close()


def garbage(expected):
    rng = random.Random(1)
    pieces = [b"ask\n", b"ask 0\n", b"ask -1\n", b"ask 99999999999\n", b"ask 16385\n", b"ask 1x\n", b"\n", b"\0" * 100,
              b"GET / HTTP/1.1\r\n\r\n", b"x" * 100000, b"cancel me\n"]
    pieces += [rng.randbytes(rng.randrange(1, 3000)) for _ in range(20)]
    for piece in pieces:
        client = Client()
        try:
            client.send(piece)
            client.socket.shutdown(socket.SHUT_WR)
        except OSError:  # it has closed already
            pass
        check(client.event()[0] in ("error", None), f"{piece[:20]} is refused")
        client.close()
    client = Client()
    for text in (b"\0\0\0", b"\xff\xfe\xfd", b"a" * 16384):
        client.send(b"ask %d\n%s" % (len(text), text))
        check(client.answer()[1] in ("error", "done"), f"a strange question: {text[:9]}")
    client.send(b"cancel\ncancel\n")  # nothing to cancel: no word
    client.ask(questions[0])
    client.ask(questions[1])
    check(client.answer()[1:] == ("error", b"one question at a time"), "a second question")
    check(client.answer()[1] == "done", "the first one's answer")
    client.close()
    for cut in (b"as", b"ask 100\n", b"ask 100\nhalf"):
        client = Client()
        client.send(cut)
        client.close()
    check(alone(questions[2]) == expected[2], "the answer after garbage")


def stopping(expected):
    service = Service("--max-tokens", LONG, "--grace", "100")
    client, idle = Client(questions[0]), Client()
    client.event()
    service.process.send_signal(signal.SIGTERM)
    text, word, line = client.answer()
    check(word == "done" and line.startswith(b"max_tokens "), f"an answer may end: {word} {line}")
    check(idle.event()[0] is None, "an idle client is let go")
    check(service.wait() == 0 and not os.path.exists(path), "SIGTERM is a success and leaves no socket")
    service = Service("--max-tokens", "900", "--grace", "0")
    client = Client(questions[0])
    client.event()
    service.process.send_signal(signal.SIGTERM)
    text, word, line = client.answer()
    check(word == "done" and line.startswith((b"stopped ", b"max_tokens ")), f"an answer is cut: {word} {line}")
    check(service.wait() == 0, "SIGTERM without grace")
    service = Service()
    service.stop(signal.SIGKILL)
    check(os.path.exists(path), "a killed service leaves its socket")
    service = Service("--max-tokens", LONG)
    check(alone(questions[0]) == expected[0], "the answer after a crash")
    check(service.stop(signal.SIGINT) == 0, "SIGINT")


bad_models()
service = Service("--max-tokens", LONG, "--clients", "4")
answers = [alone(q) for q in questions]
check(len(set(answers)) == len(answers), "the answers differ")
many_at_once(answers)
gone_and_cancelled(answers)
half_closed(answers)
garbage(answers)
check(Service().wait() == 1, "a second service on the same socket")
check(service.stop() == 0, service.said)
stopping(answers)
print("assistant: four at once as alone, gone, cancelled, garbage, stopped, crashed, bad models: all well")
