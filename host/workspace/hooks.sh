# Installs the pre-commit hook of the repository at $1. Says "kept" if another one was there.
set -u
cd -- "$1" || exit 1
script=.openhands/pre-commit.sh mark='This hook was installed by OpenHands'
common=$(git rev-parse --git-common-dir) || exit 1
hooks=$common/hooks
hook=$hooks/pre-commit
mkdir -p -- "$hooks" && chmod +x -- "$script" || exit 1
if [[ -e $hook || -L $hook ]] && ! grep -qF -e "$mark" -- "$hook"; then
  mv -f -- "$hook" "$hook.local" && chmod +x -- "$hook.local" || exit 1
  echo kept
fi
cat >"$hook.new" <<HOOK || exit 1
#!/bin/bash
# $mark
# Without the script, there is nothing to check.
[ -x "$script" ] || exit 0
source "$script"
HOOK
chmod +x -- "$hook.new" && mv -f -- "$hook.new" "$hook"
