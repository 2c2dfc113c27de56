"""Starts that cannot work, and nodes whose identity is taken."""

import ipaddress
import json
import re
import subprocess
import time

from lab import address, corosync_conf, node_list, timeouts


def what_cannot_work_ends_in_one_line_that_says_what_to_do(lab, table):
    good = lab.conf.read_text()
    lab.start_node(2)

    def ends(what, advice, conf, *flags, **where):
        conf = lab.write("refused.conf", conf) if isinstance(conf, str) else conf
        ends_with_advice(lab, table, what, advice, conf, *flags, **where)

    def with_timeouts(lines):
        return good.replace("token: 1000", lines)

    ends("misspelt value", r"conf:5: totem\.token must be a whole number", with_timeouts("token: 1 s"))
    ends("brace left out", r"conf:\d+: .*close that one with `}` first", good.replace("}\nquorum", "\nquorum"))
    ends(
        "values that disagree",
        r"consensus \(90 ms\) must .* totem\.join \(100 ms\)",
        with_timeouts("join: 100\n  consensus: 90"),
    )
    ends("not in the list", "add a node .* --name", corosync_conf(nodelist=node_list({2: 2})))
    ends("no such interface", "no interface .*bindnetaddr.* 10.77.0.1", corosync_conf(network="10.99.0.0"))
    ends("no such file", "cannot be read .* -c FILE", lab.directory / "absent.conf")
    ends("a directory", "cannot be read .* -c FILE", lab.directory)
    secret = lab.write("secret.conf", good)
    secret.chmod(0o600)
    ends("unreadable file", "let this user read it", secret, user="nobody")
    ends("port in use", "UDP port 5405 .* stop the other node .* mcastport", lab.conf, host=2)
    ends(
        "socket in use",
        "stop it, or name another path with --socket",
        lab.conf,
        "--socket",
        lab.nodes[2].socket,
    )


def a_newcomer_whose_listed_id_is_taken_stays_out(lab, table):
    """Its node list says that node 2 is on its own host; those of the ring, that it is on host 2. Neither list can be told
    to be wrong, so nobody leaves: the newcomer is in no ring with the others, and both sides name it."""
    lab.start_node(1)
    lab.start_node(2)
    lab.agreement([1, 2], patience=timeouts(lab))
    rings = [len(lab.nodes[host].rings) for host in (1, 2)]
    lab.start_node(3, lab.write("other.conf", corosync_conf(nodelist=node_list({1: 1, 3: 2}))))
    time.sleep(timeouts(lab))
    changes = sum(len(lab.nodes[host].rings) for host in (1, 2)) - sum(rings)
    table.row(f"{changes} ring changes by the newcomer", "0", changes == 0)
    lab.agreement([1, 2], patience=timeouts(lab))
    for host, text in ((1, "the id of node 2 is used at another address"), (3, "another process uses this node's id, 2")):
        notices = [notice["text"] for notice in json.loads(lab.nodes[host].status("--json"))["notices"]]
        table.row(f"named by host {host}", "", any(notice.startswith(text) for notice in notices))
        table.note("\n".join(notices))


def a_newcomer_whose_generated_id_is_taken_gives_up(lab, table):
    """There are no node lists, and two addresses differ only in the bit that `clear_node_high_bit` clears."""
    ids = [int(ipaddress.IPv4Address(address(host))) for host in (1, 2)]
    without_list = {"totem": "  clear_node_high_bit: yes\n", "nodelist": ""}
    conf = lab.write("no-list.conf", corosync_conf(**without_list))
    for host in (1, 2):
        lab.start_node(host, conf, "--expected-votes", "2")
    lab.agreement([1, 2], ids=ids, patience=timeouts(lab))
    subprocess.run(lab.on(3, "ip", "address", "add", "138.77.0.2/24", "dev", "e0"), check=True)
    conf = lab.write("other.conf", corosync_conf(**without_list, network="138.77.0.0"))
    ends_with_advice(lab, table, "the same address", f"id {ids[1]}.* an id of its own", conf, host=3)
    lab.agreement([1, 2], ids=ids, patience=timeouts(lab))


def ends_with_advice(lab, table, what, advice, conf, *flags, host=1, user=None):
    """A node is refused: it ends by itself, and its last words, in one line, say what to do."""
    if "--socket" not in flags:
        flags += ("--socket", lab.directory / "refused.sock")
    done = lab.run(
        "node", "-c", conf, "--state-dir", lab.directory / "state-refused", *flags, host=host, user=user
    )
    *log, last = done.stderr.splitlines() or [""]
    told = last.startswith("quorate: ") and not any(line.startswith("quorate: ") for line in log)
    table.row(
        f"{what}: exit code {done.returncode}", "1", done.returncode == 1 and told and re.search(advice, last)
    )
    table.note(last)


SCENARIOS = [
    (what_cannot_work_ends_in_one_line_that_says_what_to_do, 2),
    (a_newcomer_whose_listed_id_is_taken_stays_out, 3),
    (a_newcomer_whose_generated_id_is_taken_gives_up, 3),
]
