# Makes a repository of folder $1, and lets git trust it whoever owns it.
set -u
mkdir -p -- "$1" || exit 1
git init -q -- "$1" || exit 1
git config --global --get-all safe.directory | grep -qFx -e "$1" || git config --global --add safe.directory "$1"
