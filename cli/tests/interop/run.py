#!/usr/bin/env python3
"""
Tests Quorate nodes in rings of real corosync daemons, and with real clients of corosync, in network
namespaces.

    run.py [--long] [--messages N] [--repeat N] [--only WORD] [--keep DIRECTORY]
           [--kind KIND] [--outputs FILE] QUORATE

QUORATE is the program. The script prints what happens and, at the end, a table. It exits with 1 if
a check failed. It needs root, Debian's corosync 3.1, corosync-qdevice, corosync-qnetd, libcpg-dev
and gcc, iproute2, nftables and tcpdump. If one is missing, it says so and does nothing.

The scenarios with a quorum device (`--only device`) play the same steps on real and on Quorate
nodes, and compare. `--kind` plays them on one kind only, and `--outputs` keeps what they compare.

Real daemons are started one after another, because 3.1.7 itself aborts in about one of thirteen
simultaneous starts. If a daemon aborts that can have received datagrams of daemons only, Quorate is
not involved: the scenario counts as inconclusive and is played again. So does one in which clients of
two daemons saw different messages, and a capture shows that a daemon did not do its part. In that
case, living nodes may also lose each other, and changes may take long. The output says so.

The captured datagrams are decoded by this program, by tshark if it is installed (which recognizes
them only as UDP), and by the Python script named by SECOND_DECODER in the environment, if any.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "namespaces"))

import device
import messages
import others
import programs
from captures import second_decoding
from lab import Failed, consensus_timeout, corosync_conf, node_list, token_timeout
from mixed import PATIENCE, Aborted, Mixed
from peers import DaemonsDiffer, Load, exchange

# The scenarios. Each gets hosts on which nothing runs yet, and a row of the table for its
# measurements.


def one_comes_leaves_comes_and_is_killed(lab, row, host):
    """A node comes and goes while the others send. Host 1 comes as the representative."""
    others = [other for other in lab.hosts if other != host]
    lab.start_all(*others)
    load = Load(lab)
    for other in others:
        load.add(other)
    dc = lab.first_ours(others)
    for end in (lab.terminate, lab.kill):
        started = time.monotonic()
        lab.start_host(host)
        row.time("join", PATIENCE, started, lab.settle(lab.hosts, dc=dc or lab.first_ours([host])))
        load.add(host)
        load.flows()
        compare_quorum(lab)
        if end == lab.terminate:
            load.remove(host)
        ended = end(host)
        killed = load.lose(host) if end == lab.kill else None
        settled = lab.settle(others, dc=dc)
        if killed:
            load.is_told(killed, "nodedown")
        row.time(*(leave(lab, host) if end == lab.terminate else ("kill", timeouts(lab))), ended, settled)
        load.flows()
    row.finish(load)


def a_cut_ring_heals(lab, row):
    lab.start_all()
    dc = lab.first_ours(lab.hosts)
    row.messages = exchange(lab, messages.sizes(600, random.Random(1)), patience=120)
    majority, minority = list(lab.hosts)[:4], list(lab.hosts)[4:]
    cut = time.monotonic()
    lab.netns("cut", ",".join(map(str, majority)), ",".join(map(str, minority)))
    row.time("cut", timeouts(lab), cut, lab.settle(majority, dc=dc))
    lab.settle(minority, dc=lab.first_ours(minority))
    compare_quorum(lab, majority)
    compare_quorum(lab, minority)
    healed = time.monotonic()
    lab.netns("heal")
    row.time("heal", PATIENCE, healed, lab.settle(lab.hosts, dc=dc))
    row.messages += exchange(lab, messages.sizes(600, random.Random(2)), patience=120)
    compare_quorum(lab)


def both_kinds_send_at_once(lab, row):
    lab.start_all()
    count = row.options.messages
    row.messages = exchange(lab, messages.sizes(count, random.Random(count)), patience=max(240, count / 40))
    compare_quorum(lab)


def one_of_each_kind_loses_datagrams(lab, row):
    lab.start_all()
    real, ours = lab.only("R")[-1], lab.only("QC")[-1]
    for host in (real, ours):
        lab.netns("loss", host, 5)
    count = row.options.messages // 5
    row.messages = exchange(lab, messages.sizes(count, random.Random(count)), patience=240)
    # Leaves are received under loss, too. Every lost token costs the time until it is
    # retransmitted.
    others = list(lab.hosts)
    for host in (ours, real):
        others.remove(host)
        ended = lab.terminate(host)
        what, _ = leave(lab, host)
        row.time(what, timeouts(lab), ended, lab.settle(others, dc=lab.first_ours(others)))
    lab.netns("heal")


def without_multicast(scenario):
    """Plays a scenario with `transport: udpu` on a network that carries no multicast."""

    def played(lab, row, *arguments):
        nodelist = node_list({host: host for host in lab.hosts})
        lab.conf = lab.write("corosync.conf", corosync_conf(transport="udpu", nodelist=nodelist))
        for host in lab.hosts:
            lab.netns("nomcast", host)
        scenario(lab, row, *arguments)

    played.__name__ = f"{scenario.__name__}_without_multicast"
    return played


def over_sockets(scenario):
    """Plays a scenario with clients that use libqb's datagram sockets in place of shared memory."""

    def played(lab, row, *arguments):
        lab.system = lab.system.replace("system {", "system {\n  qb_ipc_type: socket")
        scenario(lab, row, *arguments)
        # The client that watches the ring is still there.
        for host in lab.hosts:
            files = {file.name for file in lab.shared_memory(host).glob("qb-*/*")}
            if lab.nodes[host].expected and ("qb-control-cpg" not in files or any("header" in name for name in files)):
                raise Failed(f"{lab.nodes[host]} has {files} for its clients")

    played.__name__ = f"{scenario.__name__}_over_sockets"
    return played


def nodes_restart_inside_the_token_timeout(lab, row):
    """Nodes are killed and restarted before the others miss them, the representative first."""
    lab.start_all()
    load = Load(lab)
    for host in lab.hosts:
        load.add(host)
    load.flows()
    # Ordered by the time for which they have been members. The first is DC.
    ours = lab.only("QC")
    for host in lab.hosts:
        killed = lab.kill(host)
        before = load.lose(host)
        lab.start_host(host)
        if host in ours:
            ours.remove(host)
            ours.append(host)
        row.time("restart", PATIENCE, killed, lab.settle(lab.hosts, dc=ours[0]))
        load.is_told(before, "nodedown")
        load.add(host)
        load.flows()
        compare_quorum(lab)
    row.finish(load)


def real_nodes_are_replaced_by_ours_and_back(lab, row):
    """Nodes are replaced one at a time, while all send."""
    lab.start_all()
    load = Load(lab)
    for host in lab.hosts:
        load.add(host)
    # In the order in which they joined. The first of them is DC.
    ours = []
    for kind in "QR":
        for host in lab.hosts:
            load.remove(host)
            ended = lab.terminate(host)
            ours = [other for other in ours if other != host]
            others = [other for other in lab.hosts if other != host]
            row.time(*leave(lab, host), ended, lab.settle(others, dc=next(iter(ours), None)))
            started = time.monotonic()
            lab.start_host(host, kind)
            ours += [host] if kind == "Q" else []
            row.time("join", PATIENCE, started, lab.settle(lab.hosts, dc=next(iter(ours), None)))
            load.add(host)
            load.flows()
            compare_quorum(lab)
    row.finish(load)


def what_operators_do_to_a_real_node_does_not_upset_ours(lab, row):
    """A reload, expected votes and votes changed and changed back, a shutdown."""
    lab.start_all()
    load = Load(lab)
    for host in lab.hosts[:-1]:
        load.add(host)
    dc = lab.first_ours(lab.hosts)
    first, last = lab.only("R")[0], lab.hosts[-1]
    for command in (
        "corosync-cfgtool -R",
        "corosync-quorumtool -e 5",
        "corosync-quorumtool -e 3",
        f"corosync-quorumtool -n {first} -v 2",
        f"corosync-quorumtool -n {first} -v 1",
        "corosync-quorumtool -e 3",  # they grew with the votes, but do not fall with them
    ):
        code, text = lab.nodes[first].run(*command.split())
        if code != 0:
            raise Failed(f"{command} ended with {code}: {text}")
        load.flows()
        lab.settle(lab.hosts, dc=dc)
        compare_quorum(lab)
    shut = time.monotonic()
    lab.nodes[last].expected = False
    code, text = lab.nodes[last].run("corosync-cfgtool", "-H")
    if code != 0:
        raise Failed(f"corosync-cfgtool -H ended with {code}: {text}")
    settled = lab.settle(lab.hosts[:-1], dc=dc)
    row.time("shutdown", timeouts(lab), shut, settled)
    if (code := lab.nodes[last].process.wait(timeout=30)) != 0:
        raise Failed(f"{lab.nodes[last]} ended with {code} when it was shut down")
    load.flows()
    compare_quorum(lab)
    row.finish(load)


def one_of_ours_joins_and_leaves_again_and_again(lab, row, host, times):
    """A Quorate node joins and leaves while the real ones send."""
    others = [other for other in lab.hosts if other != host]
    lab.start_all(*others)
    load = Load(lab)
    for other in others:
        load.add(other)
    for _ in range(times):
        started = time.monotonic()
        lab.start_host(host)
        row.time("join", PATIENCE, started, lab.settle(lab.hosts, dc=host))
        load.flows(1)
        ended = lab.terminate(host)
        row.time(*leave(lab, host), ended, lab.settle(others, dc=None))
        load.flows(1)
    row.finish(load)


def a_real_representative_costs_no_lease(lab, row):
    """It holds the token of an idle ring as long as its timeouts allow, longer than our lease."""
    lab.start_all()
    dc = lab.nodes[lab.first_ours(lab.hosts)]
    lab.wait(lambda: lease(dc) == "held", lambda: f"the lease of {dc.host} is {lease(dc)}", patience=10)
    rings = len(dc.rings)
    time.sleep(1)
    view = dc.view
    until = time.monotonic() + 15
    while time.monotonic() < until:
        if (now := lease(dc)) != "held":
            raise Failed(f"the lease of the DC of an idle ring is {now}")
        time.sleep(0.03)
    # A node logs each change of its lease.
    if dc.view is not view or len(dc.rings) != rings:
        raise Failed(f"an idle ring changes: {dc.view}")
    # Another member's message wakes the token at the real node. Then the node is DC as before.
    row.messages = exchange(lab, messages.sizes(60, random.Random(3)), patience=60)
    lab.settle(lab.hosts, dc=dc.host)
    if len(dc.rings) != rings:
        raise Failed("messages cost the ring")


TOOLS = [
    "corosync-quorumtool -s",
    "corosync-quorumtool -l",
    "timeout 1 stdbuf -oL corosync-quorumtool -m",
    "corosync-quorumtool -p",
    "corosync-cfgtool -s",
    "corosync-cfgtool -n",
    "corosync-cfgtool -a 1",
    "corosync-cfgtool -a 2",
    "corosync-cfgtool -L",
    "corosync-cfgtool -R",
    "corosync-cpgtool",
    "corosync-cpgtool -e",
    "corosync-cmapctl -g totem.cluster_name",
    "corosync-cmapctl -g no.such.key",
    "corosync-cmapctl -g nodelist.node.1.name",
    "corosync-cmapctl -s nodelist.node.1.name str other",
    "corosync-cmapctl -s test.key u32 17",
    "corosync-cmapctl -g test.key",
    "corosync-cmapctl -d test.key",
    "corosync-cmapctl -d test.key",
    "corosync-cmapctl -s test.text str hello",
    "corosync-cmapctl -g test.text",
    "corosync-cmapctl -d test.text",
    "corosync-cmapctl -b nodelist",
    "corosync-cmapctl -b quorum",
]

# Keys of a real daemon that a Quorate node does not have: services, timeouts and files that it lacks,
# and notes of votequorum to itself.
LACKING = re.compile(
    r"""config\.|resources\.|logging\.|runtime\.(blackbox|force_gather|votequorum\.(atb_type|ev_barrier|two_node))
    |runtime\.services\.(mon|pload|wd)|runtime\.services\.\w+\.\d|internal_configuration\.service\.[467]
    |runtime\.config\.totem\.(block_unlisted|downcheck|heartbeat|interface|knet|max_network|token_\w+_before|token_warning)
    |totem\.interface\.ringnumber""",
    re.VERBOSE,
)


def tools_print_what_they_print_on_corosync(lab, row):
    """corosync's own tools, on a real node and on a Quorate node of one ring."""
    lab.start_all()
    real, ours = (lab.nodes[host] for host in lab.hosts)
    for tool in TOOLS:
        theirs, mine = (shown(*node.run(*tool.split())) for node in (real, ours))
        if mine != theirs:
            raise Failed(f"{tool} says\n{mine}\non a Quorate node and\n{theirs}\non corosync")
    theirs, mine = (keys(node) for node in (real, ours))
    lacking = {key: type for key, type in theirs.items() if mine.get(key) != type and not LACKING.match(key)}
    if lacking:
        raise Failed(f"a Quorate node lacks {lacking}")
    for node in (real, ours):
        track = "corosync-cmapctl -m stats -t stats.srp.orf_token_rx"
        code, text = node.run("sh", "-c", f"(sleep 4; echo q) | timeout 5 stdbuf -oL {track}")
        if "modify> stats.srp.orf_token_rx" not in text:
            raise Failed(f"{track} on {node} ended with {code}: {text}")
    said = []
    for node in (ours, real):
        shut = time.monotonic()
        node.expected = False
        said.append(shown(*node.run("corosync-cfgtool", "-H")))
        if node.process.wait(timeout=PATIENCE):
            raise Failed(f"{node} ended with {node.process.returncode} after corosync-cfgtool -H")
        if node == ours:
            row.time("shutdown", timeouts(lab), shut, lab.settle([real.host], dc=None))
    if said[0] != said[1] or said[0][0]:
        raise Failed(f"corosync-cfgtool -H says\n{said[0]}\non a Quorate node and\n{said[1]}\non corosync")


def operators_kill_nodes(lab, row):
    """`corosync-cfgtool -k` on a Quorate node ends a real node, and then a Quorate node."""
    lab.start_all()
    load = Load(lab)
    load.add(2)
    for victim in (1, 3):
        lab.nodes[victim].expected = False
        killed = time.monotonic()
        code, text = lab.nodes[2].run("corosync-cfgtool", "-k", victim)
        if code:
            raise Failed(f"corosync-cfgtool -k {victim} ended with {code}: {text}")
        others = [host for host in lab.hosts if lab.nodes[host].expected]
        row.time("kill", timeouts(lab), killed, lab.settle(others, dc=lab.first_ours(others)))
        lab.nodes[victim].process.wait(timeout=PATIENCE)
        load.flows()
    code, text = lab.nodes[2].run("corosync-cfgtool", "-k", 3)
    if code == 0:
        raise Failed(f"a node that is gone was killed again: {text}")
    row.finish(load)


def a_reload_reaches_both_kinds(lab, row):
    """`corosync-cfgtool -R` on either node makes both read their files again, and a bad one is refused."""
    lab.start_all()
    real, ours = (lab.nodes[lab.only(kind)[0]] for kind in "RC")
    files = [lab.directory / f"host-{node.host}" / "etc" / "corosync.conf" for node in (real, ours)]
    texts = [file.read_text() for file in files]

    def named(name):
        for file, text in zip(files, texts, strict=True):
            file.write_text(re.sub(r"name: n2\b", f"name: {name}", text))

    def shows(node, name):
        return f"= {name}\n" in node.run("corosync-cmapctl", "-g", "nodelist.node.1.name")[1]

    for asked, name in ((ours, "second"), (real, "other"), (ours, "n2")):
        named(name)
        since = time.monotonic()
        code, text = asked.run("corosync-cfgtool", "-R")
        if code:
            raise Failed(f"corosync-cfgtool -R on {asked} ended with {code}: {text}")
        lab.wait(
            lambda name=name: all(shows(node, name) for node in (real, ours)),
            lambda name=name: f"node 2 is not shown as {name} by both",
        )
        row.time(f"reload on {asked}", 5.0, since, [time.monotonic()] * 2)
    files[1].write_text(texts[1].replace("version: 2", "version: 9"))
    code, text = ours.run("corosync-cfgtool", "-R")
    if code == 0 or not shows(ours, "n2"):
        raise Failed(f"corosync-cfgtool -R with a bad file ended with {code}: {text}")
    files[1].write_text(texts[1])
    lab.settle(lab.hosts, dc=lab.first_ours(lab.hosts))


def operators_change_votes(lab, row):
    """Votes and expected votes are set on a Quorate node, and refused as on a real one."""
    lab.start_all()
    load = Load(lab)
    for host in lab.hosts:
        load.add(host)
    dc = lab.first_ours(lab.hosts)
    real, ours = (lab.nodes[lab.only(kind)[0]] for kind in "RC")
    for order in (
        "-e 5",
        "-e 3",
        f"-n {real.host} -v 2",
        f"-n {real.host} -v 1",
        f"-n {ours.host} -v 3",
        f"-n {ours.host} -v 1",
        "-e 3",  # they grew with the votes, but do not fall with them
    ):
        code, text = ours.run("corosync-quorumtool", *order.split())
        if code != 0:
            raise Failed(f"corosync-quorumtool {order} ended with {code}: {text}")
        load.flows()
        lab.settle(lab.hosts, dc=dc)
        compare_quorum(lab)
    for order in ("-e 2", "-e 6", "-n 9 -v 1"):
        theirs, mine = (shown(*node.run("corosync-quorumtool", *order.split())) for node in (real, ours))
        if mine != theirs or mine[0] == 0:
            raise Failed(f"corosync-quorumtool {order} says\n{mine}\non a Quorate node and\n{theirs}\non corosync")
    row.finish(load)


def corosyncs_test_programs_run(lab, row):
    """corosync's own test programs end and print as on corosync."""
    if wanted := programs.missing():
        raise Failed(f"corosync's test programs need {', '.join(wanted)}")
    lab.start_all()
    with tempfile.TemporaryDirectory(prefix="quorate-programs-") as directory:
        programs.build(pathlib.Path(directory))
        for program in programs.PROGRAMS:
            program.run(lab.nodes[1], pathlib.Path(directory))


def programs_of_others_run(lab, row):
    """rust-corosync, pcs, crmsh, notifyd, fence_virtd and an exporter, on a real node and on ours."""
    if wanted := others.missing():
        raise Failed(f"programs of others need {', '.join(wanted)}")
    source = lab.directory / "bindings"
    source.mkdir()
    bindings = others.built(source)
    lab.start_all()
    for host in lab.hosts:
        node, directory = lab.nodes[host], lab.directory / f"others-{host}"
        directory.mkdir()
        others.bindings_work(node, bindings)
        others.commands_run(node, directory)
        others.exporter_sees_quorum(node, directory)
        others.fence_virtd_joins_its_group(node, directory)
        # Without the other one, there is no quorum.
        [other] = [other for other in lab.hosts if other != host]
        with others.notifyd(node, directory) as tells:
            lab.kill(other)
            tells("has lost quorum")
            lab.start_host(other)
            tells("is now quorate")
        lab.settle(lab.hosts, dc=lab.first_ours(lab.hosts))


def rude_clients_leave_nothing_behind(lab, row):
    """Clients that send garbage, damage their memory, go in the middle or read nothing."""
    lab.start_all()
    ours = lab.nodes[lab.only("C")[0]]
    load = Load(lab)
    for host in lab.hosts:
        load.add(host)
    rings, before = len(ours.rings), open_files(ours)
    rude = lambda *arguments: ours.on(sys.executable, HERE / "rude.py", *arguments)
    silent = lab.start(rude("silent", 120))
    for mode in ("connects 200", "strangers 20", "garbage 200 1", "damage 50 2", "vanish", "vanish", "flood"):
        done = subprocess.run(rude(*mode.split()), capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise Failed(f"rude.py {mode}: {done.stderr.strip()[-300:]}")
        load.flows(1)
    kept = subprocess.run(rude("strangers_wait", 200), capture_output=True, text=True, timeout=PATIENCE)
    if kept.stdout.strip() != "16":
        raise Failed(f"the node keeps {kept.stdout.strip()} of 200 clients without a permission: {kept.stderr[-300:]}")
    silent.kill()
    silent.wait()
    gone = lambda: open_files(ours) == before and shared_directories(ours) == 2
    lab.wait(gone, lambda: f"{open_files(ours) - before} descriptors, {shared_directories(ours)} directories", 10)
    if len(ours.rings) != rings:
        raise Failed("a client cost the ring")
    row.finish(load)


def a_client_reads_only_when_it_is_refused(lab, row):
    """A client of libcpg sends more long messages than a node keeps for one that does not read."""
    lab.start_all()
    for count, length in ((60, 3_000_000), (12, 16_000_000)):
        for host, node in lab.nodes.items():
            code, text = node.run(lab.cpg, "long", count, length)
            delivered = len(re.findall(rf"^deliver {host} \d+ {length} ", text, re.MULTILINE))
            if code or delivered != count:
                raise Failed(f"the client of {node} ended with {code} after {delivered} messages:\n{text[-1000:]}")
            row.messages += delivered


def open_files(node):
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))


def shared_directories(node):
    """Returns the number of clients that share memory with a node: here the watcher and the load."""
    return len(node.run("ls", "/dev/shm")[1].split())


def shown(code, text):
    """Returns what a tool printed, without what differs between two nodes of a ring."""
    text = re.sub(r" \(local\)|^(Date|Node ID):.*$", "", text, flags=re.MULTILINE)
    # A node names itself, and shows its link to the other one.
    text = re.sub(r"Local node ID \d|10\.77\.0\.\d|nodeid: +\d|localhost|connected|(?<=local_node_pos )\(.*", "_", text)
    return code, "\n".join(line.rstrip() for line in text.splitlines())


def keys(node):
    """Returns the keys of a node's map with the types of their values."""
    return dict(re.findall(r"^(\S+) \((\w+)\)", node.run("corosync-cmapctl")[1], re.MULTILINE))


def lease(node):
    return json.loads(node.status("--json"))["status"]["lease"]


def an_embedding_program_is_a_guest(lab, row):
    """The example `guest` runs on host 3. It has a vote, and shares a group with the daemons."""
    program = pathlib.Path(lab.quorate).with_name("guest")
    if not program.exists():
        raise Failed(f"{program} is not there; cargo build -p quorate-examples --bin guest")
    lab.start_all(1, 2)
    output = lab.directory / "guest.log"
    started = time.monotonic()
    with open(output, "w") as log:
        command = lab.on(3, "env", f"TMPDIR={lab.directory}", program, lab.conf)
        guest = lab.start(command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)

    def in_ring(members):
        def are():
            return all(lab.nodes[host].view.members == members for host in (1, 2))

        lab.wait(are, lambda: f"the daemons are not in a ring of {members}: {lab.views([1, 2])}")
        return max(lab.nodes[host].view.at for host in (1, 2))

    def says(text):
        lab.wait(lambda: text in output.read_text(), lambda: f"the guest did not say {text}: {output.read_text()}")

    row.time("join", PATIENCE, started, (in_ring([1, 2, 3]), None))
    says("3 votes, with quorum")
    if lab.nodes[1].quorum()["total"] != 3:
        raise Failed(f"the guest has no vote: {lab.nodes[1].quorum()}")
    guest.stdin.write("hello\n")
    guest.stdin.flush()
    says("3: hello")
    _, groups = lab.nodes[1].run("corosync-cpgtool")
    if "guests" not in groups:
        raise Failed(f"the daemon does not know the group: {groups}")
    ended = time.monotonic()
    guest.stdin.close()
    if guest.wait(timeout=PATIENCE) != 0:
        raise Failed("the guest failed")
    row.time("leave of ours", timeouts(lab), ended, (in_ring([1, 2]), None))


SHORT = [
    (one_comes_leaves_comes_and_is_killed, "RRQ", 3),
    (one_comes_leaves_comes_and_is_killed, "QRR", 1),
    (a_real_representative_costs_no_lease, "RQQ"),
    (what_operators_do_to_a_real_node_does_not_upset_ours, "RQR"),
    (both_kinds_send_at_once, "RQRQ"),
    (one_of_each_kind_loses_datagrams, "RRQ"),
    (nodes_restart_inside_the_token_timeout, "QRQR"),
    (real_nodes_are_replaced_by_ours_and_back, "RRR"),
    (a_cut_ring_heals, "RQRQRQ"),
    (one_of_ours_joins_and_leaves_again_and_again, "RRQ", 3, 5),
    (one_comes_leaves_comes_and_is_killed, "RRC", 3),
    (both_kinds_send_at_once, "CRQC"),
    (tools_print_what_they_print_on_corosync, "RC"),
    (operators_kill_nodes, "RCC"),
    (operators_change_votes, "RCR"),
    (a_reload_reaches_both_kinds, "RC"),
    (an_embedding_program_is_a_guest, "RRG"),
    (rude_clients_leave_nothing_behind, "CQ"),
    (a_client_reads_only_when_it_is_refused, "RC"),
    (without_multicast(one_comes_leaves_comes_and_is_killed), "RRQ", 3),
    (device.a_device_keeps_the_quorum_of_the_last_node, "RRD"),
]

LONG = [
    (one_comes_leaves_comes_and_is_killed, "QQR", 3),
    (one_comes_leaves_comes_and_is_killed, "RQQ", 1),
    (over_sockets(both_kinds_send_at_once), "CC"),
    (without_multicast(one_comes_leaves_comes_and_is_killed), "QRR", 1),
    (without_multicast(both_kinds_send_at_once), "RQRQ"),
    (a_real_representative_costs_no_lease, "RRQ"),
    (over_sockets(tools_print_what_they_print_on_corosync), "RC"),
    (corosyncs_test_programs_run, "C"),
    (over_sockets(corosyncs_test_programs_run), "C"),
    (programs_of_others_run, "RC"),
    (one_comes_leaves_comes_and_is_killed, "CCC", 1),
    (nodes_restart_inside_the_token_timeout, "CRCR"),
    (one_of_each_kind_loses_datagrams, "RCQ"),
    (a_cut_ring_heals, "RCRCRC"),
    (both_kinds_send_at_once, "QRQRQR"),
    (one_of_each_kind_loses_datagrams, "QQR"),
    (nodes_restart_inside_the_token_timeout, "RQRQRQ"),
    (one_of_ours_joins_and_leaves_again_and_again, "RRQ", 3, 100),
    (one_of_ours_joins_and_leaves_again_and_again, "QRR", 1, 100),
    (device.a_device_votes_in_each_situation, "RRD", "ffsplit"),
    (device.a_device_votes_in_each_situation, "RRD", "lms"),
    (device.a_stopped_device_holds_up_the_ring_for_its_sync_timeout, "RRD"),
    (device.a_device_serves_nodes_of_both_kinds, "RRD"),
    (device.corosyncs_test_device_gives_its_vote, "RRD"),
]


def timeouts(lab):
    """Returns three times the time to lose a member, since the machine may be busy."""
    return 3 * (token_timeout(len(lab.hosts)) + consensus_timeout(len(lab.hosts)))


def leave(lab, host):
    """Returns what is timed, and how long it may take.

    A clean leave needs no timeout, unless corosync leaves. It announces that once, and a daemon
    that handles its token at that moment does not listen.
    """
    ours = lab.kinds[host] != "R"
    return ("leave of ours", token_timeout(len(lab.hosts))) if ours else ("leave of a real one", timeouts(lab))


def compare_quorum(lab, hosts=None):
    """Checks that both kinds agree on votes and quorum, and that ours name the right DC."""
    hosts = [host for host in hosts or lab.hosts if lab.nodes[host].expected]
    asked, ours = lab.only("RC", hosts), lab.only("Q", hosts)
    if asked and ours:
        lab.compare_quorum(asked[0], ours[0])
    if len({str(lab.nodes[host].quorum()) for host in asked}) > 1:
        raise Failed(f"corosync-quorumtool says {[lab.nodes[host].quorum() for host in asked]}")
    for host in ours:
        lab.assert_dc_text(host)


def explain_partings(lab, row):
    """
    Explains why living nodes lost each other, or knew of changes too late.

    Nodes that hear each other form one ring unless one of them does not do its part. 3.1.7 has a
    known fault on a busy machine: it sends its JOIN once and then nothing until the others continue
    without it, although it should repeat the JOIN every 50 ms. If no daemon did that, the daemons
    are not at fault, and Quorate may be.
    """
    if not row.parted and not row.late:
        return
    silences = silent_daemons(lab).items()
    silent = {host: f"corosync {host} gathered and was silent for {seconds:.1f} s" for host, seconds in silences}
    if row.late:
        if not silent:
            raise Failed("; ".join(row.late))
        row.remarks.append("; ".join([*row.late, *silent.values()]))
    for hosts in sorted(row.parted):
        reasons = [silent[host] for host in hosts if host in silent]
        if not reasons:
            raise Failed(f"the nodes of hosts {hosts} lost each other, and no daemon was silent")
        row.remarks.append(f"hosts {hosts} lost each other: {'; '.join(reasons)}")


def silent_daemons(lab):
    """Returns the hosts of the daemons that did not do their part, and how long they were silent."""
    return silent_in_gather(lab.run("decode", "--json", lab.capture_file, timeout=300).stdout, lab.only("R"))


# The longest silence of a daemon that gathers: ten times the interval of its JOINs.
SILENCE = 0.5


def silent_in_gather(lines, hosts):
    """Returns the hosts that were silent in gather while others wanted them, and for how long."""
    silent = {}
    # For each host that gathers: the time of its last JOIN, and how often it was wanted since.
    gathers = {}
    for line in lines.splitlines():
        datagram = json.loads(line)
        if "from" not in datagram:
            continue  # the counts at the end
        sender, now = int(re.split("[.:]", datagram["from"])[3]), datagram["elapsed"]
        since, wanted = gathers.pop(sender, (now, 0))
        if sender in hosts and wanted > 1 and now - since > SILENCE:
            silent[sender] = now - since
        if datagram["kind"] == "join":
            for host in set(gathers) & set(datagram["proc"]) - set(datagram["failed"]):
                gathers[host] = (gathers[host][0], gathers[host][1] + 1)
            gathers[sender] = (now, 0)
    return silent


def decode(lab, row):
    """Checks that our decoder and independent ones understand everything on the wire."""
    path = lab.capture_file
    words = lab.tcpdump_log.read_text()
    if int(re.search(r"(\d+) packets dropped by kernel", words)[1]):
        # Without the missing datagrams, a message may lack its beginning and cannot be decoded.
        row.remarks.append("datagrams missing in the capture, not decoded")
        return
    done = lab.run("decode", "--summary", path, timeout=300)
    if done.returncode:
        raise Failed(f"quorate decode ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    second = second_decoding(path, "-s")
    if second and second.returncode:
        raise Failed(f"the second decoder: {second.stderr[-1000:]}")
    if shutil.which("tshark"):
        command = ["tshark", "-n", "-r", path, "-d", "udp.port==5405,corosync_totemnet", "-Y", "_ws.malformed"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode or done.stdout:
            raise Failed(f"tshark ended with {done.returncode}: {done.stdout[:1000]}{done.stderr[-1000:]}")


class Row:
    """The measurements of a scenario."""

    def __init__(self, options, name):
        self.options = options
        self.name = name
        self.messages = 0
        # For each kind of event, the times until the last real node and the last of ours knew of
        # it, in seconds.
        self.times = collections.defaultdict(lambda: ([], []))
        # Hosts whose nodes lost each other, although they were neither killed nor cut off.
        self.parted = set()
        # Events of which nodes knew too late.
        self.late = []
        self.alive = ""
        self.remarks = []
        self.verdict = "FAILED"

    def time(self, what, at_most, since, knew):
        """Notes when both kinds knew of an event at `since`, at most `at_most` seconds later."""
        for kind, at in zip(self.times[what], knew):
            if at is not None:
                kind.append(at - since)
                if at - since > at_most:
                    self.late.append(f"{what} took {at - since:.2f} s, at most {at_most:.2f} s")

    def finish(self, load):
        """Ends this load and checks what its clients saw."""
        self.messages = load.finish()
        load.check_order()
        self.parted = load.parted()

    def lines(self):
        """Returns the lines of the table: name and verdict, then one line for each timed event."""
        head = [self.name, self.messages or "", "yes" if self.verdict == "ok" and self.messages else "", "", "", ""]
        lines = [[*head, self.alive, self.verdict]]
        for what, kinds in self.times.items():
            lines.append(["", "", "", what, *map(spread, kinds), "", ""])
        return lines


def spread(times):
    """Returns the only time in milliseconds, or the median and the longest."""
    times = [round(1000 * seconds) for seconds in sorted(times)]
    if len(times) < 2:
        return " ".join(map(str, times))
    return f"{times[len(times) // 2]}, at most {times[-1]}"


TITLES = ["scenario", "messages", "one order", "", "real nodes knew, ms", "ours knew, ms", "real alive", ""]


def print_table(rows):
    lines = [TITLES, *(line for row in rows for line in row.lines())]
    widths = [max(len(str(line[column])) for line in lines) for column in range(len(TITLES))]
    print()
    for line in lines:
        print("  ".join(str(field).ljust(width) for field, width in zip(line, widths)).rstrip())


def play(options, scenario, kinds, *arguments):
    """Plays a scenario on fresh hosts. A failure is reported and does not stop the others."""
    name = f"{scenario.__name__.replace('_', ' ')} ({kinds}{''.join(f', {argument}' for argument in arguments)})"
    row = Row(options, name)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quorate-interop-") as directory:
        lab = Mixed(options, kinds, directory)
        inconclusive = False
        try:
            with lab:
                try:
                    with lab.capture(lab.capture_file):
                        scenario(lab, row, *arguments)
                        lab.look_after_daemons()
                    decode(lab, row)
                    explain_partings(lab, row)
                    row.verdict = "ok"
                finally:
                    real = [node for host, node in lab.nodes.items() if lab.kinds[host] == "R" and node.expected]
                    row.alive = f"{sum(node.process.poll() is None for node in real)} of {len(real)}"
        except Aborted as abort:
            inconclusive = not lab.quorate_heard
            row.verdict = "inconclusive" if inconclusive else "FAILED"
            row.remarks.append(str(abort))
        except DaemonsDiffer as difference:
            row.remarks.append(str(difference))
            if silent := silent_daemons(lab):
                row.verdict = "inconclusive"
                row.remarks.append(f"corosync was silent while it gathered: {silent}")
        except (Failed, OSError, subprocess.SubprocessError) as failure:
            row.remarks.append(str(failure))
        if row.verdict == "FAILED":
            row.remarks += lab.last_words()
            if options.keep:
                kept = options.keep / f"{name} {time.strftime('%H%M%S')}"
                kept.mkdir(parents=True)
                for file in [lab.capture_file, lab.conf, *lab.directory.glob("*.log")]:
                    if file.exists():
                        shutil.copy(file, kept)
                row.remarks.append(f"kept in {kept}")
    print(f"{name:<90}  {time.monotonic() - started:5.1f} s  {row.verdict}", flush=True)
    for remark in row.remarks:
        print(f"    {remark}", flush=True)
    return row


def missing():
    """Returns what is missing on this machine, as text, or an empty string."""
    if os.geteuid() != 0:
        return "root"
    programs = ["ip", "nft", "tcpdump", "corosync", "corosync-cfgtool", "corosync-quorumtool", "gcc", "nsenter"]
    programs += ["corosync-qdevice", "corosync-qnetd"]
    wanted = [program for program in programs if not shutil.which(program)]
    if not pathlib.Path("/usr/include/corosync/cpg.h").exists():
        wanted.append("libcpg-dev")
    return ", ".join(wanted)


def main():
    parser = argparse.ArgumentParser(description="Quorate nodes in rings of real corosync daemons.")
    parser.add_argument("quorate", type=pathlib.Path, metavar="QUORATE", help="the program")
    parser.add_argument("--long", action="store_true", help="more scenarios, and 100 joins and leaves")
    parser.add_argument(
        "--messages", type=int, default=10_000, metavar="N", help="how many in the message test [10000]"
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="how often to play the short ones [1]")
    parser.add_argument("--only", default="", metavar="WORD", help="only scenarios whose name has this word")
    parser.add_argument(
        "--kind", choices=device.KINDS, default="both", help="the nodes of the scenarios with a quorum device [both]"
    )
    parser.add_argument(
        "--outputs", type=pathlib.Path, metavar="FILE", help="where to append what these nodes print at each step"
    )
    parser.add_argument(
        "--keep", type=pathlib.Path, metavar="DIRECTORY", help="where to put logs and captures of failures"
    )
    options = parser.parse_args()
    if wanted := missing():
        print(f"skipped: needs {wanted}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)

    rows = []
    with tempfile.TemporaryDirectory(prefix="quorate-interop-") as directory:
        options.cpg = pathlib.Path(directory) / "cpg"
        compiler = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-O2", "-o", options.cpg, HERE / "cpg.c", "-lcpg"]
        subprocess.run(compiler, check=True)
        try:
            for scenario in SHORT * options.repeat + LONG * options.long:
                if options.only in scenario[0].__name__.replace("_", " ") + scenario[1]:
                    # One of three tries should not be spoilt by a daemon that aborts among daemons.
                    for _ in range(3):
                        rows.append(play(options, *scenario))
                        if rows[-1].verdict != "inconclusive":
                            break
        except KeyboardInterrupt:
            print("stopped")
            return 130
    print_table(rows)
    verdicts = collections.Counter(row.verdict for row in rows)
    print(f"\n{verdicts['ok']} passed, {verdicts['FAILED']} failed, {verdicts['inconclusive']} inconclusive")
    return 1 if verdicts["FAILED"] or not verdicts["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
