"""Log, signals, socket, clients and disk. None of them may stop a node or lock out the operator."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from lab import GRACE, Failed, corosync_conf, node_list, timeouts, token_timeout


def until(what, look, patience=20):
    """Waits until `look` returns a true value, and returns it."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Failed(f"not seen within {patience} s: {what}")
        time.sleep(0.02)
    return found


def answer(lab, host):
    return json.loads(lab.nodes[host].status("--json"))


def start_logging_to(lab, host, log):
    """Starts a node whose stderr is `log`. It is not watched."""
    directory = lab.directory
    command = [lab.quorate, "node", "-c", lab.conf, "--socket", directory / f"{host}.sock"]
    command += ["--state-dir", directory / f"state-{host}"]
    return lab.start(lab.on(host, *command), stdout=subprocess.DEVNULL, stderr=log)


def status(lab, host, timeout=5):
    done = lab.run("status", "--json", "--socket", lab.directory / f"{host}.sock", timeout=timeout)
    return json.loads(done.stdout) if done.returncode == 0 else None


def a_restart(lab, host):
    """Restarts a node, so that the others have a line to log."""
    lab.nodes[host].terminate()
    lab.nodes[host].process.wait(timeout=10)
    lab.start_node(host)


def whole(lab, host):
    seen = status(lab, host)
    members = [node["id"] for node in seen["status"]["nodes"] if node["online"]] if seen else []
    return seen and seen["status"]["settled"] and members == list(lab.hosts) and seen


def a_log_whose_reader_is_gone_ends_no_node(lab, table):
    reader, writer = os.pipe()
    node = start_logging_to(lab, 1, writer)
    os.close(writer)
    for host in (2, 3):
        lab.start_node(host)
    until("a ring of three", lambda: whole(lab, 1))
    os.close(reader)
    a_restart(lab, 3)
    until("a ring of three again", lambda: whole(lab, 1))
    lost = until("lost lines", lambda: status(lab, 1)["log_lines_lost"])
    table.row(f"{lost} lines lost, exit code {node.poll()}", "", node.poll() is None)
    node.terminate()
    table.row(f"exit code {node.wait(timeout=10)} after SIGTERM", "0", node.returncode == 0)


def a_log_whose_reader_is_stuck_holds_up_nothing(lab, table):
    reader, writer = os.pipe()
    node = start_logging_to(lab, 1, writer)
    for host in (2, 3):
        lab.start_node(host)
    until("a ring of three", lambda: whole(lab, 1))
    full = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while os.write(full, b"x" * size):
                pass
    rings = len(lab.nodes[2].rings)
    a_restart(lab, 3)
    until("a ring of three again", lambda: whole(lab, 1))
    changes = len(lab.nodes[2].rings) - rings
    table.row(f"{changes} ring changes for a restart", "2", changes == 2)
    done = lab.run("cat", "g", "--socket", lab.directory / "1.sock", timeout=10)
    table.row(f"cat ended with {done.returncode}", "0", done.returncode == 0)
    asked = time.monotonic()
    node.terminate()
    code = node.wait(timeout=10)
    table.row(f"exit code {code} after SIGTERM", "0", code == 0)
    table.time("SIGTERM with the log stuck", time.monotonic() - asked, 2.5)
    os.close(reader)


def signals_end_no_node_unless_they_ask_for_it(lab, table):
    lab.start_ring()
    rings = len(lab.nodes[2].rings)
    for number, words in (
        (signal.SIGHUP, "SIGHUP: the configuration is applied only at the start"),
        (signal.SIGUSR1, "SIGUSR1: this signal does nothing"),
        (signal.SIGUSR2, "SIGUSR2: this signal does nothing"),
    ):
        lab.nodes[1].process.send_signal(number)
        until(words, lambda words=words: words in lab.nodes[1].log.read_text())
    table.row(f"{len(lab.nodes[2].rings) - rings} ring changes", "0", len(lab.nodes[2].rings) == rings)
    asked = lab.nodes[1].end(signal.SIGQUIT)
    table.time("SIGQUIT: ring without it", lab.agreement(lab.hosts[1:], patience=3 * timeouts(lab)) - asked, 0.5)
    code = lab.nodes[1].process.wait(timeout=10)
    table.row(f"exit code {code}", "0", code == 0)


def a_removed_socket_is_made_again(lab, table):
    lab.start_ring()
    for names in (["1.sock"], ["1.sock", "1.sock.lock"]):
        for name in names:
            (lab.directory / name).unlink()
        removed = time.monotonic()
        second = lab.run(
            "node", "-c", lab.conf, "--socket", lab.nodes[1].socket, "--state-dir", lab.directory / "state-1", host=1
        )
        table.row(f"second start ended with {second.returncode}", "1", second.returncode == 1)
        until("an answer", lambda: status(lab, 1))
        table.time("socket there again", time.monotonic() - removed, 5)
        code = lab.run("quorum", "--socket", lab.nodes[1].socket).returncode
        table.row(f"quorum ended with {code}", "0", code == 0)
    dc = lab.nodes[1].view.dc
    done = lab.run("dc", "release", "--socket", lab.nodes[1].socket)
    table.row(f"dc release ended with {done.returncode}, DC was {dc}", "0 or 1", (done.returncode == 0) == (dc == 1))
    made = lab.nodes[1].log.read_text().count("the socket was removed and has been created again")
    table.row(f"{made} log lines", "2", made == 2)
    rings = {node.view.ring for node in lab.nodes.values()}
    table.row(f"{len(rings)} ring", "1", len(rings) == 1)


def idle_and_stuck_clients_keep_the_operator_not_out(lab, table):
    lab.start_ring()
    node = lab.nodes[2]

    def resident():
        text = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024

    def connect(request=b""):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(str(node.socket))
        client.sendall(request)
        return client

    idle = [connect() for _ in range(100)]
    request = json.dumps({"version": 1, "request": "cat", "group": "g"}).encode() + b"\n"
    stuck = [connect(request) for _ in range(63)]
    for client in stuck:
        client.recv(1)
    refused = [lab.run("cat", "g", "--socket", node.socket) for _ in range(4)]
    words = {done.stderr for done in refused if done.returncode}
    ok = len(words) == 1 and "already serves 64 cat clients" in words.pop()
    table.row("clients that are turned away read the reason", "", ok)
    for command in (["status"], ["quorum"]):
        asked = time.monotonic()
        done = lab.run(*command, "--socket", node.socket)
        table.row(f"{command[0]} ended with {done.returncode}", "0", done.returncode == 0)
        table.time(command[0], time.monotonic() - asked, 2)
    done = lab.run("dc", "release", "--socket", lab.nodes[node.view.dc].socket)
    table.row(f"dc release ended with {done.returncode}", "0", done.returncode == 0)
    before = resident()
    lines = (b"x" * 65000 + b"\n") * 1500
    rings, sends = len(node.rings), time.monotonic()
    sender = subprocess.run(
        [lab.quorate, "cat", "g", "--socket", lab.nodes[1].socket], input=lines, stdout=subprocess.DEVNULL, timeout=60
    )
    table.row(f"sender ended with {sender.returncode}", "0", sender.returncode == 0)
    table.time("sender of 97 MB", time.monotonic() - sends, 30)
    table.row(f"{len(node.rings) - rings} ring changes", "0", len(node.rings) == rings)
    grown = resident() - before
    table.row(f"memory for 63 clients that read nothing: {grown:.0f} MiB", "640 MiB", grown <= 640)
    with stuck[0].makefile("rb") as late:
        last = json.loads(late.readlines()[-1])
    # It exceeded its own limit, or all clients exceeded theirs and it had the most.
    table.row("a stuck client that reads again is told why", "", "MiB unread" in last.get("message", ""))
    for client in idle + stuck:
        client.close()


@contextlib.contextmanager
def on_a_disk_of(lab, host, size):
    """Mounts a file system of this size at the state directory of a host."""
    directory = lab.directory / f"state-{host}"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def a_full_disk_at_the_start_is_named_and_waited_for(lab, table):
    with on_a_disk_of(lab, 3, "16k") as directory:
        fill = fill_up(directory)
        for host in lab.hosts:
            lab.start_node(host)
        lab.agreement([1, 2], patience=3 * timeouts(lab))
        until("the reason", lambda: "cannot store the record" in lab.nodes[3].log.read_text())
        notices = until("a notice", lambda: answer(lab, 3)["notices"])
        table.row("status says that it waits for the disk", "", "waits for its disk" in notices[0]["text"])
        asked = lab.nodes[3].terminate()
        code = lab.nodes[3].process.wait(timeout=10)
        table.time(f"SIGTERM: exit code {code}", time.monotonic() - asked, token_timeout(3) + GRACE)
        table.row("ended in order", "", code == 0)
        lab.start_node(3)
        until("a notice", lambda: answer(lab, 3)["notices"])
        fill.unlink()
        freed = time.monotonic()
        table.time("joined with space", lab.agreement(lab.hosts, patience=3 * timeouts(lab)) - freed, 3)
        lab.nodes[3].terminate()
        lab.nodes[3].process.wait(timeout=10)


def a_disk_that_stands_still_at_the_start_is_named(lab, table):
    environment, _, stuck = lab.shim()
    for ends in (True, False):
        stuck.touch()
        for host in (1, 2):
            if host not in lab.nodes:
                lab.start_node(host)
        node = lab.start_node(3, environment=environment)
        lab.agreement([1, 2], patience=3 * timeouts(lab))
        started = time.monotonic()
        notices = until("a notice", lambda: answer(lab, 3)["notices"])
        table.row("status says that it waits for the disk", "", "waits for its disk" in notices[0]["text"])
        until("the reason", lambda node=node: "the disk has not stored the record" in node.log.read_text())
        table.time("said so", time.monotonic() - started, 3)
        if ends:
            # The time after which a link is blamed.
            time.sleep(4)
            asked = node.terminate()
            code = node.process.wait(timeout=10)
            # It waits at most that long for its watcher to join a group, because it cannot
            # tell the others.
            table.time(f"SIGTERM: exit code {code}", time.monotonic() - asked, token_timeout(3) + GRACE)
            table.row("ended in order", "", code == 0)
        else:
            stuck.unlink()
            freed = time.monotonic()
            table.time("joined", lab.agreement(lab.hosts, patience=3 * timeouts(lab)) - freed, timeouts(lab))
    log = lab.nodes[3].log.read_text()
    table.row("it does not blame the network", "", "does not hear this node" not in log)


def fill_up(directory):
    """Fills the file system of a directory. Returns the file that fills it."""
    fill = directory / "fill"
    with contextlib.suppress(OSError), open(fill, "wb", buffering=0) as file:
        for size in (4096, 1):
            while file.write(b"x" * size):
                pass
    return fill


def a_full_disk_does_not_keep_a_member_from_the_next_ring(lab, table):
    """Numbers of future rings are stored in advance. At the restart, the disk is read-only."""
    with on_a_disk_of(lab, 3, "16k") as directory:
        lab.start_ring()
        fill = fill_up(directory)
        left = lab.nodes[2].terminate()
        table.time("ring without node 2", lab.agreement([1, 3], patience=3 * timeouts(lab)) - left, timeouts(lab))
        asked = lab.nodes[3].terminate()
        table.row(f"SIGTERM: exit code {lab.nodes[3].process.wait(timeout=10)}", "0", lab.nodes[3].process.returncode == 0)
        table.time("ended", time.monotonic() - asked, 2)
        fill.unlink()
        subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
        done = lab.run("node", "-c", lab.conf, "--socket", lab.directory / "3.sock", "--state-dir", directory, host=3, timeout=10)
        told = "mount its file system for writing" in done.stderr
        table.row(f"read-only: exit code {done.returncode}", "1", done.returncode == 1 and told)
        table.note(done.stderr)


def a_member_whose_disk_gets_read_only_says_so_when_it_matters(lab, table):
    """The next ring needs no new record. A ring with a higher number needs one."""
    lab.start_node(3)
    lab.agreement([3], quorate=False, patience=3 * timeouts(lab))
    for host in (1, 2):
        lab.start_node(host)
    lab.agreement(lab.hosts, patience=3 * timeouts(lab))
    # Only the mount: a file system with a file open for writing cannot be remounted.
    directory, inside = lab.directory / "state-3", ["nsenter", "--mount", "--target", f"{lab.nodes[3].process.pid}"]
    subprocess.run([*inside, "mount", "--bind", directory, directory], check=True)
    subprocess.run([*inside, "mount", "-o", "remount,bind,ro", directory], check=True)
    left = lab.nodes[2].terminate()
    table.time("ring without node 2", lab.agreement([1, 3], patience=3 * timeouts(lab)) - left, timeouts(lab))
    lab.nodes[2].process.wait(timeout=10)
    lab.start_node(2)
    lab.agreement([1, 2], patience=3 * timeouts(lab))
    until("the reason", lambda: "Read-only file system" in lab.nodes[3].log.read_text())
    notices = until("a notice", lambda: answer(lab, 3)["notices"])
    table.row("status says that it waits for the disk", "", any("waits for its disk" in notice["text"] for notice in notices))
    until("no quorum at node 3", lambda: not lab.nodes[3].view.quorate)
    subprocess.run([*inside, "umount", directory], check=True)
    mended = time.monotonic()
    table.time("back", lab.agreement(lab.hosts, patience=3 * timeouts(lab)) - mended, timeouts(lab))


def what_is_not_a_file_does_not_hang_the_start(lab, table):
    """A pipe is in the place of the record, of its draft, or of its lock."""
    for host, name, starts in ((1, "quorate_1", False), (2, "quorate_2.new", True), (3, "quorate_3.lock", False)):
        directory = lab.directory / f"state-{host}"
        directory.mkdir()
        os.mkfifo(directory / name)
        if starts:
            lab.start_node(host)
            until("a ring of one", lambda: whole_of(lab, host, [host]))
            table.seen(f"{name}: replaced")
            continue
        done = lab.run(
            "node", "-c", lab.conf, "--socket", lab.directory / "x.sock", "--state-dir", directory, host=host, timeout=10
        )
        said = done.stderr.strip().splitlines()
        ok = done.returncode == 1 and len(said) == 1 and f"{name} is not a regular file; remove it" in said[0]
        table.row(f"{name}: one line says what to do", "", ok)


def whole_of(lab, host, members):
    seen = status(lab, host)
    return seen and [node["id"] for node in seen["status"]["nodes"] if node["online"]] == members


def lost_records_are_told_and_a_majority_that_kept_theirs_acts(lab, table):
    lab.start_ring()
    lab.nodes[3].kill()
    lab.nodes[3].process.wait()
    (lab.directory / "state-3" / "quorate_3").unlink()
    lab.start_node(3)
    lab.agreement(lab.hosts, patience=3 * timeouts(lab))
    log = lab.nodes[3].log.read_text()
    table.row("the log says that the record is lost", "", "the stored record is lost" in log)

    def restart_without_records(hosts):
        for host in hosts:
            lab.nodes[host].kill()
            lab.nodes[host].process.wait()
        for host in hosts:
            (lab.directory / f"state-{host}" / f"quorate_{host}").unlink()
            lab.start_node(host)

    # The clock advances by a second meanwhile. Each start takes 1024 ring numbers, and the clock
    # counts milliseconds.
    time.sleep(1.5)
    restarted = time.monotonic()
    restart_without_records(lab.hosts)
    agreed = lab.agreement(lab.hosts, patience=3 * timeouts(lab))
    table.time("all lost theirs: a DC with all votes", agreed - restarted, 2 * timeouts(lab))
    restarted = time.monotonic()
    restart_without_records([2, 3])
    agreed = lab.agreement(lab.hosts, patience=3 * timeouts(lab))
    table.time("two lost theirs: a DC with all votes", agreed - restarted, 2 * timeouts(lab))
    lab.nodes[3].kill()
    lab.nodes[3].process.wait()
    lab.agreement([1, 2], patience=3 * timeouts(lab))
    restart_without_records([1])
    reason = "the records of nodes {1} were lost, and the other members are not a majority; start the other nodes"
    until("the reason", lambda: answer(lab, 2)["status"]["inquorate"] == reason)
    table.seen("one of two lost its: no quorum, and why")
    lab.start_node(3)
    lab.agreement(lab.hosts, patience=3 * timeouts(lab))
    table.seen("the third is back: a DC")


def a_majority_without_records_has_a_dc_when_all_are_there(lab, table):
    """The first start takes all nodes. Two of three lose the file, then the whole directory.

    After that, all restart cleanly.
    """
    conf = lab.write("takes-all.conf", corosync_conf(quorum="", nodelist=node_list({host: host for host in lab.hosts})))
    patience = 3 * timeouts(lab)
    for host in lab.hosts:
        lab.start_node(host, conf)
    lab.agreement(lab.hosts, patience=patience)

    def restart(what, hosts, end, lose):
        for host in hosts:
            getattr(lab.nodes[host], end)()
            lab.nodes[host].process.wait(timeout=10)
        restarted = time.monotonic()
        for host in hosts:
            lose(lab.directory / f"state-{host}", host)
            lab.start_node(host, conf)
        table.time(f"{what}: a DC", lab.agreement(lab.hosts, patience=patience) - restarted, timeouts(lab))

    kept = lambda directory, host: None
    restart("two lost the file", [2, 3], "kill", lambda directory, host: (directory / f"quorate_{host}").unlink())
    restart("all in order", lab.hosts, "terminate", kept)
    restart("two lost the directory", [2, 3], "kill", lambda directory, host: shutil.rmtree(directory))
    restart("all in order once more", lab.hosts, "terminate", kept)
    lab.nodes[3].kill()
    lab.agreement([1, 2], patience=patience)
    table.seen("two are enough again")


SCENARIOS = [
    (a_log_whose_reader_is_gone_ends_no_node, 3),
    (a_log_whose_reader_is_stuck_holds_up_nothing, 3),
    (signals_end_no_node_unless_they_ask_for_it, 3),
    (a_removed_socket_is_made_again, 2),
    (idle_and_stuck_clients_keep_the_operator_not_out, 3),
    (a_full_disk_at_the_start_is_named_and_waited_for, 3),
    (a_full_disk_does_not_keep_a_member_from_the_next_ring, 3),
    (a_member_whose_disk_gets_read_only_says_so_when_it_matters, 3),
    (a_disk_that_stands_still_at_the_start_is_named, 3),
    (what_is_not_a_file_does_not_hang_the_start, 3),
    (lost_records_are_told_and_a_majority_that_kept_theirs_acts, 3),
    (a_majority_without_records_has_a_dc_when_all_are_there, 3),
]
