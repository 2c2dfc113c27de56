"""Nodes with different files: whose votes count."""

import json
import time

from lab import Failed, corosync_conf, node_list, timeouts


def conf_of(lab, nodes):
    """A configuration whose node list has these nodes."""
    return lab.write(f"list-{len(nodes)}.conf", corosync_conf(nodelist=node_list({node: node for node in nodes}), quorum=""))


def restart(lab, node, conf):
    lab.nodes[node].terminate()
    lab.nodes[node].process.wait(timeout=10)
    lab.start_node(node, conf)


def status(lab, node):
    return json.loads(lab.nodes[node].status("--json"))["status"]


def an_old_list_makes_no_second_quorate_part(lab, table):
    """
    Five nodes become three, one after the other; a node that was removed comes back with its old file, and then one that was not.
    """
    old, new = conf_of(lab, [1, 2, 3, 4, 5]), conf_of(lab, [1, 2, 3])
    patience = 5 * timeouts(lab)
    for host in lab.hosts:
        lab.start_node(host, old)
    lab.agreement(lab.hosts, patience=patience)
    for host in (4, 5):
        lab.nodes[host].terminate()
    lab.agreement([1, 2, 3], patience=patience)
    for host in (1, 2, 3):
        restart(lab, host, new)
        lab.agreement([1, 2, 3], patience=patience)
    seen = status(lab, 1)
    if seen["expected_votes"] != 3 or seen["differences"]:
        raise Failed(f"three votes are to be expected: {seen}")
    table.seen("three votes expected")
    lab.start_node(5, old)
    time.sleep(timeouts(lab))
    restart(lab, 3, old)
    until = time.monotonic() + 5 * timeouts(lab)
    while time.monotonic() < until:
        views = [lab.nodes[node].view for node in (1, 2, 3, 5)]
        rings = {view.ring for view in views if view and view.quorate and view.settled}
        parts = [[node.host for node in lab.nodes.values() if node.view and node.view.ring == ring] for ring in rings]
        if len([part for part in parts if len(part) > 1]) > 1:
            raise Failed(f"two parts are quorate: {parts}")
        time.sleep(0.05)
    for node in (1, 2):
        if not status(lab, node)["quorate"]:
            raise Failed(f"node {node} has lost quorum: {status(lab, node)}")
    table.seen("one part, and nodes 1 and 2 are quorate")


def longest_without_quorum(lab, hosts, seconds):
    """How long at a time, within so many seconds, none of these was quorate."""
    until, since, longest = time.monotonic() + seconds, None, 0
    while (now := time.monotonic()) < until:
        if any(lab.nodes[host].view.quorate for host in hosts):
            since = None
        else:
            since = since or now
            longest = max(longest, now - since)
        time.sleep(0.01)
    return longest


def a_cluster_grows_by_rolling_restarts(lab, table):
    """Three nodes become four: node 1 gets the new list, node 4 comes, nodes 2 and 3 follow. There is quorum throughout."""
    old, new = conf_of(lab, [1, 2, 3]), conf_of(lab, [1, 2, 3, 4])
    patience = 5 * timeouts(lab)
    for host in (1, 2, 3):
        lab.start_node(host, old)
    lab.agreement([1, 2, 3], patience=patience)
    restart(lab, 1, new)
    lab.agreement([1, 2, 3], patience=patience)
    rings = sum(len(lab.nodes[host].rings) for host in (1, 2, 3))
    lab.start_node(4, new)
    # Two members do not know it: it waits, and says why, and the others go on as they were.
    longest = longest_without_quorum(lab, [1, 2, 3], 4 * timeouts(lab))
    table.time("no quorum while the new node waits, at a time", longest, timeouts(lab))
    lab.agreement([1, 2, 3], patience=patience)
    more = sum(len(lab.nodes[host].rings) for host in (1, 2, 3)) - rings
    table.seen(f"{more} ring changes of three nodes in {4 * timeouts(lab):.0f} s of waiting")
    if more > 3 * 6:
        raise Failed(f"{more} ring changes for a node that two members do not list")
    restart(lab, 2, new)
    time.sleep(2 * timeouts(lab))
    restart(lab, 3, new)
    lab.agreement([1, 2, 3, 4], patience=patience)
    until = time.monotonic() + patience
    while (seen := status(lab, 4))["expected_votes"] != 4 or seen["differences"]:
        if time.monotonic() > until:
            raise Failed(f"four votes are to be expected: {seen}")
        time.sleep(0.05)
    table.seen("four votes expected")


def one_stale_list_stops_nobody(lab, table):
    """Three of four nodes are up, and the fourth comes with a list that lacks node 4: the three stay quorate."""
    stale = lab.write("stale.conf", corosync_conf(nodelist=node_list({1: 1, 2: 2, 3: 3})))
    patience = 5 * timeouts(lab)
    for host in (1, 2, 4):
        lab.start_node(host)
    lab.agreement([1, 2, 4], patience=patience)
    lab.start_node(3, stale)
    longest = longest_without_quorum(lab, [1, 2, 4], 4 * timeouts(lab))
    table.time("no quorum beside the stale list, at a time", longest, timeouts(lab))
    if lab.nodes[3].view and lab.nodes[3].view.quorate and len(lab.nodes[3].view.online) < 3:
        raise Failed(f"the one with the stale list is quorate: {lab.nodes[3].view}")
    lab.agreement([1, 2, 4], patience=patience)


def a_new_cluster_names_who_is_missing(lab, table):
    """Two of three nodes that were never started are not quorate, and say whom they wait for; once all were there, two are."""
    conf = conf_of(lab, [1, 2, 3])
    for host in (1, 2):
        lab.start_node(host, conf)
    lab.agreement([1, 2], quorate=False, patience=5 * timeouts(lab))
    why = status(lab, 1)["inquorate"]
    if "for the first time" not in why or "start node 3" not in why:
        raise Failed(f"node 3 is to be named: {why}")
    table.seen("the status names node 3")
    lab.start_node(3, conf)
    lab.agreement([1, 2, 3], patience=5 * timeouts(lab))
    lab.nodes[3].kill()
    lab.agreement([1, 2], patience=5 * timeouts(lab))
    for host in (1, 2):
        lab.nodes[host].kill()
        lab.nodes[host].process.wait(timeout=10)
    for host in (1, 2):
        lab.start_node(host, conf)
    lab.agreement([1, 2], patience=5 * timeouts(lab))
    table.seen("afterwards two are enough")


SCENARIOS = [
    (an_old_list_makes_no_second_quorate_part, 5),
    (a_cluster_grows_by_rolling_restarts, 4),
    (one_stale_list_stops_nobody, 4),
    (a_new_cluster_names_who_is_missing, 3),
]
