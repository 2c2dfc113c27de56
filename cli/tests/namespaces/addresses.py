"""Addresses that come late, go, move or surprise peers, and paths that drop some datagrams."""

import json
import re
import subprocess
import sys
import time

from lab import GRACE, PORT, Failed, address, corosync_conf, node_list, timeouts, token_timeout

# A node reports problems of its peers within this many seconds.
SAID = 8.0


def ip(lab, host, *words):
    """Runs `ip` on a host."""
    subprocess.run(lab.on(host, "ip", *" ".join(words).split()), check=True)


def says(lab, host, words, patience=SAID):
    """Waits until a node says this in its log and in its status. Returns the time."""
    until = time.monotonic() + patience
    node = lab.nodes[host]
    while time.monotonic() < until:
        notices = [notice["text"] for notice in json.loads(node.status("--json"))["notices"]]
        if any(re.search(words, notice) for notice in notices) and re.search(words, node.log.read_text()):
            return time.monotonic()
        time.sleep(0.1)
    raise Failed(f"node {host} did not say `{words}` within {patience} s, but {notices}")


def logs(lab, host, words, patience=SAID):
    """Waits until a node's log contains this."""
    until = time.monotonic() + patience
    while not re.search(words, lab.nodes[host].log.read_text()):
        if time.monotonic() > until:
            raise Failed(f"node {host} did not log `{words}` within {patience} s")
        time.sleep(0.1)


def an_interface_made_again_is_followed(lab, table):
    """The link goes down and up, addresses are flushed, and the interface is removed and recreated.

    At last the address moves to a bridge.
    """
    lab.start_ring()
    others = [host for host in lab.hosts if host != 3]
    patience = 3 * timeouts(lab)

    def away_and_back(what, away, back):
        for words in away:
            ip(lab, 3, words)
        lab.agreement(others, patience=patience)
        lab.agreement([3], quorate=False, patience=patience)
        at = time.monotonic()
        for words in back:
            ip(lab, 3, words)
        table.time(f"{what}: back", lab.agreement(lab.hosts, patience=patience) - at, timeouts(lab))

    with_address = f"address add {address(3)}/24 dev e0"
    away_and_back("link down", ["link set e0 down"], ["link set e0 up"])
    down, up = ["address flush dev e0", "link set e0 down"], ["link set e0 up", with_address]
    away_and_back("address flushed, link down", down, up)
    ip(lab, 3, "link delete e0")
    at = says(lab, 3, f"no interface has this node's address {address(3)}; bring the interface up")
    lab.agreement(others, patience=patience)
    at = time.monotonic()
    lab.netns("plug", 3)
    table.time("made again: back", lab.agreement(lab.hosts, patience=patience) - at, timeouts(lab))
    rings = len(lab.nodes[1].rings)
    for words in (
        "link add br1 type bridge mcast_snooping 0",
        "link set e0 master br1",
        "link set br1 up",
        f"address add {address(3)}/24 dev br1",
        f"address del {address(3)}/24 dev e0",
    ):
        ip(lab, 3, words)
    # A bridge may lose frames until its port forwards.
    time.sleep(token_timeout(3))
    lab.agreement(lab.hosts, patience=patience)
    table.seen(f"moved to a bridge: {len(lab.nodes[1].rings) - rings} ring changes")


def a_node_waits_for_its_listed_address(lab, table):
    """When it starts, the host has only another address of the network. It is not used."""
    for host in (1, 2):
        lab.start_node(host)
    lab.agreement([1, 2], patience=10 * token_timeout(3))
    ip(lab, 3, "address flush dev e0")
    files = ["-c", lab.conf, "--socket", lab.directory / "nameless.sock", "--state-dir", lab.directory / "nameless"]
    done = lab.run("node", *files, host=3, timeout=10)
    table.row(f"no address and no name: exit code {done.returncode}", "1", done.returncode == 1)
    table.row("it says what to do", "", "is not in the node list (n1, n2, n3)" in done.stderr and "--name" in done.stderr)
    lab.start_node(3, lab.conf, "--name", "n3")
    says(lab, 3, f"no interface has this node's address {address(3)}; bring the interface up")
    lab.nodes[3].terminate()
    code = lab.nodes[3].process.wait(timeout=10)
    table.row(f"no address but a name: waits, exit code {code}", "0", code == 0)
    ip(lab, 3, "address add 10.77.0.100/24 dev e0")
    lab.start_node(3, lab.conf, "--name", "n3", name="other-address")
    says(lab, 3, f"no interface has this node's address {address(3)}; bring the interface up")
    sockets = subprocess.run(lab.on(3, "ss", "-Hulna"), check=True, capture_output=True, text=True).stdout
    table.row("bound to the listed address only", "", address(3) in sockets and "10.77.0.100" not in sockets)
    at = time.monotonic()
    ip(lab, 3, f"address add {address(3)}/24 dev e0")
    table.time("joined", lab.agreement(lab.hosts, patience=3 * timeouts(lab)) - at, timeouts(lab))


def a_virtual_address_of_the_network_is_warned_about(lab, table):
    """There is no node list, and a virtual address precedes the host's own."""
    conf = lab.write("no-list.conf", corosync_conf())
    ip(lab, 2, "address flush dev e0")
    ip(lab, 2, "address add 10.77.0.100/24 dev e0")
    ip(lab, 2, f"address add {address(2)}/24 dev e0")
    lab.start_node(2, conf, "--expected-votes", "1")
    logs(
        lab,
        2,
        r"bindnetaddr 10\.77\.0\.0 is the network of several addresses of this host; the node uses e0 10\.77\.0\.100/24, "
        r"not 10\.77\.0\.2; write the exact address",
    )
    table.seen("warned which one it uses")


def a_node_whose_virtual_address_moves_is_not_quorate(lab, table):
    """There is no node list. Node 3 restarts with a virtual address, which then moves away."""
    conf = lab.write("no-list.conf", corosync_conf(quorum="  expected_votes: 3\n"))
    ids = {host: lab.address_id(host) for host in lab.hosts}
    patience = 6 * timeouts(lab)
    for host in lab.hosts:
        lab.start_node(host, conf)
    lab.agreement(lab.hosts, ids=ids.values(), patience=patience)
    lab.nodes[3].terminate()
    lab.nodes[3].process.wait(timeout=10)
    ip(lab, 3, "address flush dev e0")
    ip(lab, 3, "address add 10.77.0.100/24 dev e0")
    ip(lab, 3, f"address add {address(3)}/24 dev e0")
    ip(lab, 3, "route replace 224.0.0.0/4 dev e0")
    lab.start_node(3, conf)
    ids[3] = lab.address_id(100)
    lab.agreement(lab.hosts, ids=ids.values(), patience=patience)
    logs(lab, 3, r"the node uses e0 10\.77\.0\.100/24, not 10\.77\.0\.3; write the exact address")
    table.seen("warned which one it uses, one ring with it")
    moved = time.monotonic()
    ip(lab, 3, "address del 10.77.0.100/24 dev e0")
    ip(lab, 3, f"address replace {address(3)}/24 dev e0")
    ip(lab, 3, "route replace 224.0.0.0/4 dev e0")
    node = lab.nodes[3]
    with lab.news:
        lab.news.wait_for(lambda: not node.view.quorate, patience)
        view = node.view
    if view.quorate:
        raise Failed(f"node 3 still says: {view}")
    table.time("not quorate", view.at - moved, token_timeout(3) + GRACE)
    says(lab, 3, r"no interface has this node's address 10\.77\.0\.100; bring the interface up")
    table.seen("it says why")
    lab.agreement([1, 2], ids=[ids[1], ids[2]], patience=patience)
    lab.agreement([3], ids=[ids[3]], quorate=False, patience=patience)
    table.seen("the others are a ring without it")


def a_peer_at_a_new_address_is_found_by_its_name(lab, table):
    """The node list has host names. Node 3 returns with another address, and its name follows."""
    names = {host: f"host{host}" for host in lab.hosts}

    def write_hosts(moved):
        for host in lab.hosts:
            lines = [f"{address(other)} {name}\n" for other, name in names.items() if other != 3]
            lines += [f"{moved} {names[3]}\n"]
            lab.write_etc(host, "hosts", "127.0.0.1 localhost\n" + "".join(lines))

    write_hosts(address(3))
    nodelist = node_list({host: host for host in lab.hosts})
    for host, name in names.items():
        nodelist = nodelist.replace(f"ring0_addr: {address(host)}\n", f"ring0_addr: {name}\n")
    conf = lab.write("names.conf", corosync_conf(nodelist=nodelist))
    for host in lab.hosts:
        lab.start_node(host, conf, "--name", f"n{host}")
    lab.agreement(lab.hosts, patience=10 * token_timeout(3))
    lab.nodes[3].terminate()
    lab.agreement([1, 2], patience=3 * timeouts(lab))
    ip(lab, 3, f"address del {address(3)}/24 dev e0")
    ip(lab, 3, "address add 10.77.0.33/24 dev e0")
    write_hosts("10.77.0.33")
    at = time.monotonic()
    lab.start_node(3, conf, "--name", "n3")
    table.time("back", lab.agreement(lab.hosts, patience=4 * timeouts(lab)) - at, 2 * timeouts(lab))


def a_peer_at_an_unlisted_address_is_named_on_both_sides(lab, table):
    """The list has addresses, so the operator has to change it."""
    conf = lab.write("moved.conf", lab.conf.read_text().replace(address(3), "10.77.0.33"))
    for host in (1, 2):
        lab.start_node(host)
    lab.agreement([1, 2], patience=10 * token_timeout(3))
    ip(lab, 3, "address add 10.77.0.33/24 dev e0")
    lab.start_node(3, conf)
    for host in (1, 2):
        says(lab, host, r"the id of node 3 is used at an address other than the known one; correct")
    says(lab, 3, r"node 1 does not hear this node, although this node hears it; check that")
    table.seen("named on both sides")


def rewritten_source_addresses_are_named(lab, table):
    """The host of node 3 translates the source address of its datagrams."""
    for host in (1, 2):
        lab.start_node(host)
    lab.agreement([1, 2], patience=10 * token_timeout(3))
    ip(lab, 3, "address add 10.77.0.103/24 dev e0")
    lab.nft(
        3,
        "add table ip nat",
        "add chain ip nat post { type nat hook postrouting priority 100; }",
        f"add rule ip nat post ip saddr {address(3)} udp dport {PORT} snat to 10.77.0.103",
    )
    rings = len(lab.nodes[1].rings)
    lab.start_node(3)
    says(lab, 3, rf"datagrams from {address(3)} get another source address on the way, .*exempt")
    says(lab, 3, r"node 1 does not hear this node, although this node hears it")
    says(lab, 1, r"the id of node 3 is used at an address other than the known one")
    table.seen("named on both sides")
    lab.agreement([3], quorate=False, patience=3 * timeouts(lab))
    lab.agreement([1, 2], patience=1)
    table.row(f"{len(lab.nodes[1].rings) - rings} ring changes of the others", "0", len(lab.nodes[1].rings) == rings)


def long_frames_that_do_not_arrive_are_named(lab, table):
    lab.start_ring()
    lab.nft(
        3,
        "add table inet mtu",
        "add chain inet mtu arriving { type filter hook input priority 0; }",
        "add rule inet mtu arriving iifname e0 ip length > 1400 drop",
    )
    sender = lab.nodes[1].cat("g", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    sender.stdin.write(b"x" * 20_000 + b"\n")
    sender.stdin.flush()
    for host in (1, 2):
        says(lab, host, r"node 3 does not receive a frame of 14\d\d bytes .*lower netmtu")
    says(lab, 3, r"this node does not receive a frame that it requests repeatedly")
    table.seen("named on both sides")


def a_listed_node_that_was_never_heard_is_named(lab, table):
    started = time.monotonic()
    lab.start_node(1)
    table.time("alone", says(lab, 1, r"this node hears none of the other listed nodes; start them") - started, SAID)
    lab.start_node(2)
    lab.agreement([1, 2], patience=10 * token_timeout(3))
    for host in (1, 2):
        says(lab, host, r"node 3 has not been heard since this node started; start it, or check for")
    table.seen("named by both")


def a_node_that_is_not_heard_says_so(lab, table):
    """A switch forwards no multicast of node 3, as after a change of its snooping settings."""
    for host in (1, 2):
        lab.start_node(host)
    lab.agreement([1, 2], patience=10 * token_timeout(3))
    lab.netns("cutway", 3, 1)
    lab.netns("cutway", 3, 2)
    started = time.monotonic()
    lab.start_node(3)
    table.time("says so", says(lab, 3, r"node 1 does not hear this node, although this node hears it") - started, SAID)


def network_masks_that_differ_do_no_harm(lab, table):
    for host, mask in ((1, 22), (2, 29), (3, 26)):
        ip(lab, host, "address flush dev e0")
        ip(lab, host, f"address add {address(host)}/{mask} dev e0")
    table.time("formed", lab.start_ring(), timeouts(lab))
    for node in lab.nodes.values():
        node.terminate()
        node.process.wait(timeout=10)
    conf = lab.write("no-list.conf", corosync_conf())
    started = time.monotonic()
    for host in lab.hosts:
        lab.start_node(host, conf, "--expected-votes", "3", name=f"no-list-{host}")
    ids = [lab.address_id(host) for host in lab.hosts]
    agreed = lab.agreement(lab.hosts, ids=ids, patience=3 * timeouts(lab))
    table.time("formed without a node list", agreed - started, timeouts(lab))


def a_member_whose_address_is_used_twice_is_back_afterwards(lab, table):
    """First the fourth host has only the address of the second. Then it also runs its node."""
    conf = lab.write("three.conf", corosync_conf(nodelist=node_list({host: host for host in (1, 2, 3)})))
    for host in (1, 2, 3):
        lab.start_node(host, conf)
    lab.agreement((1, 2, 3), patience=10 * token_timeout(3))

    def back(what):
        ip(lab, 4, f"address del {address(2)}/24 dev e0")
        for host in (1, 3):
            ip(lab, host, "neighbour flush all")
        time.sleep(0.3)
        ended = time.monotonic()
        lab.agreement((1, 2, 3), patience=6 * timeouts(lab))
        table.time(f"{what}: one ring", time.monotonic() - ended, 3 * timeouts(lab))

    ip(lab, 4, f"address add {address(2)}/24 dev e0")
    script = (
        "import socket, time\n"
        f"s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(({address(2)!r}, 0))\n"
        f"for _ in range(10): s.sendto(b'x', ({address(1)!r}, 9)); time.sleep(0.1)\n"
    )
    subprocess.run(lab.on(4, sys.executable, "-c", script), check=True)
    back("address twice")
    ip(lab, 4, f"address add {address(2)}/24 dev e0")
    command = [lab.quorate, "node", "-c", conf, "--name", "n2", "--socket", lab.directory / "twin.sock"]
    with open(lab.directory / "twin.log", "w") as log:
        twin = lab.start(lab.on(4, *command, "--state-dir", lab.directory / "twin"), stdout=log, stderr=log)
    time.sleep(3)
    twin.terminate()
    code = twin.wait(timeout=10)
    table.row(f"its twin ended with {code}", "0 or 1", code in (0, 1))
    back("address and node twice")


def a_second_ring_needs_two_ports_of_its_own(lab, table):
    lab.start_ring()

    def other(port):
        text = lab.conf.read_text().replace(f"mcastport: {PORT}", f"mcastport: {port}")
        return lab.write(f"port-{port}.conf", text)

    done = lab.run(
        "node", "-c", other(PORT + 1), "--state-dir", lab.directory / "other", "--socket",
        lab.directory / "other.sock", host=1,
    )
    table.row("next port refused", "", done.returncode == 1 and f"UDP port {PORT}" in done.stderr)
    first = dict(lab.nodes)
    for host in lab.hosts:
        lab.start_node(host, other(PORT + 2), name=f"second-{host}")
    lab.agreement(lab.hosts, patience=10 * token_timeout(2))
    table.seen("two ports on: a ring of its own")
    lab.nodes = first
    lab.agreement(lab.hosts, patience=1)


def two_clusters_on_one_group_ignore_each_other(lab, table):
    """There are no node lists, so only their names tell the clusters apart."""
    clusters = {"red": [1, 2], "blue": [3, 4]}
    ids = {host: lab.address_id(host) for host in lab.hosts}
    for name, hosts in clusters.items():
        text = corosync_conf().replace("cluster_name: namespaces", f"cluster_name: {name}")
        conf = lab.write(f"{name}.conf", text)
        for host in hosts:
            lab.start_node(host, conf, "--expected-votes", "2")
    for hosts in clusters.values():
        lab.agreement(hosts, ids=[ids[host] for host in hosts], patience=10 * token_timeout(2))
    for host in lab.hosts:
        says(lab, host, r"a cluster with another name uses the same group and port and is ignored; give")
    rings = {host: len(lab.nodes[host].rings) for host in lab.hosts}
    # The second cluster forms a new ring and is busy. This must not affect the first.
    lab.nodes[4].kill()
    lab.agreement([3], ids=[ids[3]], quorate=False, patience=3 * timeouts(lab))
    lab.start_node(4, lab.directory / "blue.conf", "--expected-votes", "2")
    lab.agreement([3, 4], ids=[ids[3], ids[4]], patience=3 * timeouts(lab))
    busy = lab.nodes[3].cat("load", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    busy.communicate(b"x" * 1000 + b"\n" + b"y\n" * 2000, timeout=60)
    changes = sum(len(lab.nodes[host].rings) - rings[host] for host in (1, 2))
    table.row(f"{changes} ring changes in the other cluster", "0", changes == 0)
    lines = len(re.findall(r"a cluster with another name", lab.nodes[1].log.read_text()))
    table.row(f"{lines} lines in its log", "2", lines <= 2)


SCENARIOS = [
    (an_interface_made_again_is_followed, 3),
    (a_node_waits_for_its_listed_address, 3),
    (a_virtual_address_of_the_network_is_warned_about, 2),
    (a_node_whose_virtual_address_moves_is_not_quorate, 3),
    (a_peer_at_a_new_address_is_found_by_its_name, 3),
    (a_peer_at_an_unlisted_address_is_named_on_both_sides, 3),
    (rewritten_source_addresses_are_named, 3),
    (long_frames_that_do_not_arrive_are_named, 3),
    (a_listed_node_that_was_never_heard_is_named, 3),
    (a_node_that_is_not_heard_says_so, 3),
    (network_masks_that_differ_do_no_harm, 3),
    (a_member_whose_address_is_used_twice_is_back_afterwards, 4),
    (a_second_ring_needs_two_ports_of_its_own, 2),
    (two_clusters_on_one_group_ignore_each_other, 4),
]
