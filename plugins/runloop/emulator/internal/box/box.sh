# The first process of a devbox, in mount and pid namespaces of its own: builds a root in which the devbox's disk lies over the machine's
# own files, enters it, and waits. When it ends, for it is killed or its standard input is closed, every process of the devbox ends.
#
#   DISK    the devbox's folder: home, root, tmp, workspace and what it changed in system folders
#   ROOT    an empty folder to build the new root on
#   NAME, ID, HOME_DIR   the user of the devbox
set -eu
disk=$1 root=$2 name=$3 id=$4 home_dir=$5

mount --make-rprivate /
mount -t tmpfs -o mode=755 devbox "$root"

# system FOLDER: a folder of the machine that may be written to; what is written lies on the disk. Where the kernel has no overlay for
# it, it can be read alone.
system() {
  mkdir -p "$disk/upper/$1" "$disk/work/$1"
  mount -t overlay -o "lowerdir=/$1,upperdir=$disk/upper/$1,workdir=$disk/work/$1" devbox "$root/$1" 2>/dev/null && return
  mount --rbind "/$1" "$root/$1"
  mount -o remount,bind,ro "$root/$1" 2>/dev/null || true
}

# own FOLDER MODE: a folder of the disk alone.
own() {
  mkdir -p "$disk/$1" "$root/$1"
  chmod "$2" "$disk/$1"
  mount --bind "$disk/$1" "$root/$1"
}

for entry in /*; do
  folder=${entry#/}
  case $folder in home | root | tmp | run | workspace | proc | sys | dev | lost+found) continue ;; esac
  if [[ -L $entry ]]; then
    cp -P "$entry" "$root/$folder"
  elif [[ -d $entry ]]; then
    mkdir "$root/$folder"
    case $folder in
      etc | usr | var | opt | srv) system "$folder" ;;
      bin | sbin | lib*) mount --rbind "$entry" "$root/$folder" ;;
    esac
  fi
done
own home 755
own root 700
own tmp 1777
own workspace 755
mkdir "$root"/{proc,run,sys,dev,old}
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
mkdir -p "$root/run/devbox" "$root/var/tmp" "$root$home_dir"
chmod 1777 "$root/var/tmp" 2>/dev/null || true

# The user is known by name. A file that is bound over its like needs no overlay.
accounts() {
  grep -v -e "^$name:" -e "^[^:]*:[^:]*:$id:" "/etc/$1" >"$root/run/devbox/$1" || true
  printf '%s\n' "$2" >>"$root/run/devbox/$1"
  mount --bind "$root/run/devbox/$1" "$root/etc/$1"
}
accounts passwd "$name:x:$id:$id:devbox user:$home_dir:/bin/bash"
accounts group "$name:x:$id:"
printf '127.0.0.1 localhost devbox\n::1 localhost\n' >"$root/run/devbox/hosts"
mount --bind "$root/run/devbox/hosts" "$root/etc/hosts"
if [[ -d $root/etc/sudoers.d ]]; then
  { printf '%s ALL=(ALL) NOPASSWD:ALL\n' "$name" >"$root/etc/sudoers.d/devbox" && chmod 440 "$root/etc/sudoers.d/devbox"; } 2>/dev/null || true
fi
chown "$id:$id" "$root$home_dir" "$root/workspace" 2>/dev/null || true
mkdir -p -m 700 "$root/run/devbox/shells"
chown "$id:$id" "$root/run/devbox/shells" 2>/dev/null || true
hostname devbox 2>/dev/null || true

cd "$root"
pivot_root . old
umount -l /old
rmdir /old
cd /
echo ready
exec 1>&- 2>&-
# Orphans are adopted and reaped by this shell while it waits.
while read -r _; do :; done
exit 0
