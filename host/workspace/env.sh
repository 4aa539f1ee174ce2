# Writes variables to a private file, which the shell reads once, and to ~/.bashrc. The assignments, quoted for bash, one on each
# line, come in the environment in parts: here they are in no list of processes, and in no journal.
#
# $1: the private file; $2: the home; $3: the number of parts; the rest: the names.
set -u
umask 077
file=$1 home=$2 parts=$3 text=
shift 3
for ((i = 0; i < parts; i++)); do
  part=OPENHANDS_RT_PART_$i
  text+=${!part}
done
mark='# set by openhands-rt'

# The file must be new: what is there already is somebody else's.
set -C
: >"$file" || exit 1
set +C
while IFS= read -r line; do printf '\\builtin export %s || return 1\n' "$line"; done <<<"$text" >"$file" || exit 1

# A link is followed, and the mode is kept.
bashrc=$(readlink -f -- "$home/.bashrc") || bashrc=$home/.bashrc
new=$bashrc.openhands-rt.$$
trap 'rm -f -- "$new"' EXIT
names=$*
if [[ -e $bashrc ]]; then
  cp -p -- "$bashrc" "$new" || exit 1
  grep -Ev -e "^export (${names// /|})=.*$mark\$" -- "$bashrc" >"$new"
  (($? < 2)) || exit 1
else
  : >"$new" || exit 1
fi
while IFS= read -r line; do printf 'export %s %s\n' "$line" "$mark"; done <<<"$text" >>"$new" || exit 1
mv -f -- "$new" "$bashrc"
