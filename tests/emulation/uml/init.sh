#!/bin/sh
# PID 1 of the guest: mounts, modules, one command, off. The kernel's command line sets `scratch`, `repository`.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for directory in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $directory; done
# The root is the host's, read-only; of the host's files only the scratch directory can be written to.
mkdir -p "$scratch"
mount -t hostfs scratch "$scratch" -o "$scratch"
# The repository may lie in one of the directories that are empty now.
mkdir -p "$repository"
mount -t hostfs repository "$repository" -o ro,"$repository"

mkdir -p /run/modules/lib
ln -s /usr/lib/uml/modules /run/modules/lib/modules
for module in veth tun bridge sch_netem sch_htb sch_plug sch_tbf sch_codel sch_ingress \
              cls_u32 cls_fw act_mirred act_skbedit act_gact; do
  modprobe -d /run/modules $module || echo "no module $module"
done
# With one virtual CPU a busy process would keep the kernel's own packet thread waiting for whole ticks.
for process in /proc/[0-9]*; do
  case $(cat $process/comm) in ksoftirqd*) chrt -f -p 50 ${process#/proc/} ;; esac
done

ip link set lo up
sh "$scratch/command" >"$scratch/stdout" 2>"$scratch/stderr" </dev/null
echo $? >"$scratch/status"
echo o >/proc/sysrq-trigger
sleep 60
