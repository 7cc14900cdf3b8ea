#!/bin/bash
# The package's life under a systemd that is really process 1. Runs as root in a machine that is thrown away; service.rs starts it.
#
# /trial/plimsoll.deb is the package. Each fact that is seen to hold is a line on standard output; the first that does not hold ends the
# trial, with what the service has said. The last line is "end".
set -u
configuration=/etc/plimsoll/plimsoll.toml

failed() {
  echo "FAILED: $*"
  systemctl --no-pager --full status plimsoll
  journalctl --no-pager -u plimsoll -n 40
  exit 1
}

# fact TEXT COMMAND...
fact() {
  local text=$1
  shift
  "$@" || failed "$text: $*"
  echo "$text ($SECONDS s)"
}

# not COMMAND...
not() { ! "$@"; }

# eventually COMMAND...: within 20 s.
eventually() {
  for ((i = 0; i < 400; i++)); do
    "$@" && return
    sleep 0.05
  done
  return 1
}

is() { [[ $1 == "$2" ]] || { echo "'$1' is not '$2'" && return 1; }; }
shown() { systemctl show --value -p "$1" plimsoll; }
answers() { is "$(curl -s --max-time 5 "http://127.0.0.1$1")" "$2"; } # PATH or :PORT/PATH
runs_the_installed_binary() { is "$(readlink "/proc/$(shown MainPID)/exe")" /usr/bin/plimsoll; }
is_another_process() { [[ $(shown MainPID) != "$1" && $(shown MainPID) != 0 ]]; }
is_in_flight() { [[ $(curl -s http://127.0.0.1:3000/_origin) == *'"in_flight": '"$1"* ]]; }
is_in_state() { is "$(shown ActiveState)/$(shown SubState)" "$1"; }

# configure VERSION: what /version answers; port 80 needs the one privilege, and the log goes where the unit lets it.
configure() {
  cat >$configuration <<END
workers = 2
[[listen]]
bind = "127.0.0.1:80"
to = ["127.0.0.1:3000"]
[[route]]
path = "/version"
respond = { body = "$1" }
[log]
output = "/var/log/plimsoll/access.log"
[admin]
bind = "127.0.0.1:9900"
END
}

dpkg -i /trial/plimsoll.deb >/dev/null || failed "dpkg -i"
fact "installing starts nothing" is_in_state inactive/dead
if (($(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p') < 253)); then
  install -D -m 644 /usr/share/doc/plimsoll/examples/plimsoll-before-253.conf /etc/systemd/system/plimsoll.service.d/before-253.conf
fi
mkdir -p /etc/systemd/system/plimsoll.service.d
# Shorter than a request takes: the service has to ask for more time.
printf '[Service]\nTimeoutStopSec=1s\n' >/etc/systemd/system/plimsoll.service.d/stop.conf
systemctl daemon-reload
plimsoll origin --listen 127.0.0.1:3000 --name slow --delay 2s >/dev/null &
eventually is_in_flight 0 || failed "the server"

configure one
fact "a start returns once it serves" systemctl start plimsoll
fact "port 80 answers" answers /version one
fact "its user is not root" is "$(ps -o user= -p "$(shown MainPID)")" plimsoll
fact "it has one capability" is "$(sed -n 's/^CapEff:\t0*//p' "/proc/$(shown MainPID)/status")" 400
eventually test -s /var/log/plimsoll/access.log || failed "no log"
echo "it writes its log"

configure two
fact "a reload returns" systemctl reload plimsoll
fact "what was reloaded is in force" eventually answers /version two
echo "wrong" >>$configuration
fact "a reload with a problem fails" not systemctl reload plimsoll
fact "and changes nothing" answers /version two

configure three
old=$(shown MainPID)
curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/slow >/trial/slow &
slow=$!
eventually is_in_flight 1 || failed "no request"
dpkg -i /trial/plimsoll.deb >/dev/null || failed "dpkg -i of a newer package"
fact "installing over it hands over" eventually is_another_process "$old"
fact "to the new binary" runs_the_installed_binary
fact "with the new configuration" answers /version three
wait $slow
fact "a request in flight is answered" is "$(cat /trial/slow)" 200
fact "the old process ends" eventually not test -e "/proc/$old"
fact "and the service goes on" is_in_state active/running
fact "upgrade by the verb" plimsoll upgrade --admin 127.0.0.1:9900
fact "goes on too" eventually is_in_state active/running

old=$(shown MainPID)
kill -KILL "$old"
fact "a crash is followed by a start" eventually is_another_process "$old"
fact "that serves" eventually answers /version three
curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/slow >/trial/slow &
slow=$!
eventually is_in_flight 1 || failed "no second request"
systemctl stop plimsoll
wait $slow
fact "a stop finishes what is in flight" is "$(cat /trial/slow)" 200
fact "and is no failure" is "$(shown Result)" success

systemctl start plimsoll
curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/slow >/trial/slow &
slow=$!
eventually is_in_flight 1 || failed "no third request"
plimsoll upgrade --admin 127.0.0.1:9900 >/dev/null || failed "upgrade"
systemctl stop plimsoll
wait $slow
fact "a stop finishes also what a process before has in flight" is "$(cat /trial/slow)" 200

echo "wrong" >>$configuration
fact "a wrong configuration does not start" not systemctl start plimsoll
sleep 2 # RestartSec is one
fact "and is not tried again" is "$(shown NRestarts)/$(shown ActiveState)" 0/failed
configure four
systemctl enable --now plimsoll 2>/dev/null || failed "enable"
fact "once mended it starts" answers /version four

systemctl stop plimsoll
install -m 644 /usr/share/doc/plimsoll/examples/plimsoll.socket /etc/systemd/system/
configure five
sed -i 's/^bind = "127.0.0.1:80"$/bind = ":8080"/' $configuration
systemctl daemon-reload
fact "the socket unit listens alone" systemctl start plimsoll.socket
fact "no service yet" is_in_state inactive/dead
fact "the first client starts it" answers :8080/version five
(for ((i = 0; i < 200; i++)); do curl -s -o /dev/null -w '%{http_code}\n' --max-time 10 http://127.0.0.1:8080/version; done) >/trial/answers &
asking=$!
fact "a restart while clients come" systemctl restart plimsoll
wait $asking
fact "refuses none of them" is "$(sort -u /trial/answers)" 200
systemctl stop plimsoll.socket
rm /etc/systemd/system/plimsoll.socket
fact "the service serves without the socket unit" answers :8080/version five
dpkg -P plimsoll >/dev/null || failed "dpkg -P"
fact "a purge stops it" not answers :8080/version five
fact "and leaves nothing" not ls -d /usr/bin/plimsoll /etc/plimsoll /var/log/plimsoll /var/log/private/plimsoll \
  /etc/systemd/system/multi-user.target.wants/plimsoll.service /usr/lib/systemd/system/plimsoll.service
echo end
