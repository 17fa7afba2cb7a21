#!/usr/bin/env bash
# Process 1 of one host of the lab: a machine with its own name, address, /root, /tmp, /run and /dev/shm, and an ssh server.
#
#   unshare --mount --pid --net --uts --ipc --fork --kill-child --mount-proc bash host.sh NAME IP LAB PATH...
#
# Every PATH (the Python that is shared, read-only) stays visible where it is. LAB/shared plays a network file system.
set -euo pipefail
name=$1 ip=$2 lab=$3
shift 3
mount --make-rprivate /
hostname "$name"

# Empty file systems over these folders, with the shared paths bound back into them.
stage=/mnt
mount -t tmpfs tmpfs "$stage"
for folder in /root /tmp /run; do
    mkdir -p "$stage$folder"
    for path in "$lab" "$@"; do
        if [[ $path == "$folder"/* ]]; then
            mkdir -p "$stage$path"
            mount --bind "$path" "$stage$path"
        fi
    done
done
for path in "$@"; do
    [[ -d $stage$path ]] && mount -o remount,bind,ro "$stage$path"
done
for folder in /root /tmp /run; do mount --rbind "$stage$folder" "$folder"; done
chmod 700 /root
chmod 1777 /tmp
mount -t tmpfs -o size=2g tmpfs /dev/shm

mkdir -p /root/.ssh /root/shared /run/sshd /root/venv
cp "$lab/key.pub" /root/.ssh/authorized_keys
chmod -R go= /root/.ssh
mount --bind "$lab/shared" /root/shared
cp -a "$lab/venv/." /root/venv/
cat > /root/.bashrc << EOF
export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 PIP_ROOT_USER_ACTION=ignore PATH=$(cat "$lab/path"):\$PATH
EOF
echo "127.0.0.1 localhost" > /run/hosts
for i in 1 2 3; do echo "10.77.0.1$i h$i"; done >> /run/hosts
mount --bind /run/hosts /etc/hosts

ip link set lo up
until ip link show eth0 > /dev/null 2>&1; do sleep 0.1; done
ip address add "$ip/24" dev eth0
ip link set eth0 up
ip route add default via 10.77.0.1
exec /usr/sbin/sshd -D -e -f "$lab/sshd_config"
