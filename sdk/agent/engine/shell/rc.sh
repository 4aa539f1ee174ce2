# What the persistent shell reads at its start instead of ~/.bashrc, which it reads from here.
#
# Descriptor 247 is a socket to the agent, 248 the file that holds the next command. The prompt hook never returns to a prompt:
# it reports to the agent, waits for a command, and evaluates it at top level with all of these closed. It forks nothing.
# Aliases and functions of the user's do not reach into it: words are quoted, and it is read before ~/.bashrc.

exec 246<&- 250</dev/null
__rt_key=@KEY@ __rt_q=0 __rt_n= __rt_s=0 __rt_t= __rt_p= __rt_x= __rt_c= __rt_k= __rt_i=0 __rt_j=0 __rt_b= __rt_a=() __rt_len=
__rt_py= __rt_path= __rt_at= __rt_u= __rt_user='\u' __rt_host='\h'
__rt_user=${__rt_user@P} __rt_host=${__rt_host@P}

# The first python in PATH. Looked for again when PATH has changed or the answer is gone; a missing one at most once a second. What
# PATH was is kept as a pattern, which bash compares sooner than a quoted text; one with special characters matches nothing.
__rt_python() {
  local - IFS=: d
  set -f
  __rt_path=${PATH-} __rt_at=${EPOCHSECONDS-} __rt_py=
  for d in $__rt_path; do
    [[ -x ${d:-.}/python && ! -d ${d:-.}/python ]] && { __rt_py=${d:-.}/python; break; }
  done
  case $__rt_path in *[\\*?[\(]* | '') __rt_path='[' ;; esac
}

# One turn: report how the last command ended, wait for the next, give back the last one's status and its $_. It is text, not a
# function, for bash copies a function for each call: NAME stands for the loop that asks. A loop that ends by
# the status leaves the command to the loop after it: __rt_c names that. A trigger names the report that it answers: one that was
# sent before an interrupt is not taken for the next. It has a fixed length, since read takes a line from a socket byte by byte.
__rt_turn='{ __rt_x=$? __rt_u=$_
if [[ $__rt_c == NAME ]]; then
  __rt_c=
else
  __rt_s=${__rt_b:-$__rt_x} __rt_c= __rt_p=
  ((__rt_x < 128)) || __rt_drop
  case $- in *[rx]*) __rt_flags ;; esac
  [[ ${PATH-} == $__rt_path && -x $__rt_py ]] || __rt_look
  [[ ${PROMPT_COMMAND+${#PROMPT_COMMAND}} == "$__rt_len" ]] || __rt_mend
  ((++__rt_q))
  \builtin printf "%s\0" "$__rt_key" "$__rt_n" "$__rt_q" "$__rt_s" "${!-}" "$-" "${PWD-}" "$__rt_user" "$__rt_host" "$__rt_py" ||
    \builtin exit "$__rt_s"
  while \builtin read -r -N 44 ${TMOUT:+"-t99999999"} -u 251 __rt_t || \builtin exit "$__rt_s"; do
    [[ $__rt_t == "$__rt_q "* ]] && \builtin break
  done
  \builtin mapfile -t -d "" -n 1 -u 252 __rt_a
  __rt_n=${__rt_t#"$__rt_q "} __rt_i=0 __rt_j=0 __rt_b=
  __rt_n=${__rt_n%% *}
  case NAME$__rt_s in first0 | zero0 | other[1-9]*) ;; other*) __rt_c=zero ;; *) __rt_c=other ;; esac
fi
__rt_end "$__rt_u"; } >&251 2>&1'
__rt_end() { return "$__rt_s"; }

# The seldom parts of a turn. An interrupted read leaves what it had in a buffer that all descriptors share, for the next read to
# find: it is emptied.
__rt_drop() {
  IFS= \builtin read -r -N 65536 __rt_t </dev/null
}
__rt_flags() {
  case $- in *r*) \builtin exit 125 ;; esac
  set +x
  __rt_p='{ set -x; } 2>/dev/null;'
}
__rt_look() {
  [[ ${PATH-} == $__rt_path && -z $__rt_py && ${EPOCHSECONDS-} == "$__rt_at" ]] || __rt_python
}
__rt_mend() {
  local i
  unset PROMPT_COMMAND
  for i in {1..40}; do PROMPT_COMMAND+=("$__rt_loop"); done
  PROMPT_COMMAND+=('{ \builtin kill -INT $$; } 2>/dev/null; \builtin exit 125')
}

# A break in a command, or a stopped job, gets out of the loops below. There are next ones in PROMPT_COMMAND; behind the last, an
# interrupt leads back to the first, since nothing else starts them again. It gives up when the hook cannot run at all.
__rt_again() {
  __rt_x=$?
  __rt_b=${__rt_k:-$__rt_x} __rt_k=
  ((__rt_j++ < 9)) || \builtin exit 125
}

# Whether a loop was left for the next one; if not, by a break.
__rt_left() {
  __rt_x=$?
  [[ -z $__rt_c ]] || return 0
  __rt_k=$__rt_x
  return 1
}

# $? of a command is that of the one before: in the body of a while loop it is 0, in that of an until loop it is not. Neither -e
# nor ERR sees it there. The subscript makes sure that no command is evaluated twice. What the user's -x and DEBUG say of the loop
# itself goes to the socket, where the agent skips it.
#
# The descriptors of the agent are closed in the loops, once for all commands: 251 and 252 are where bash keeps 247 and 248
# meanwhile, for it saves a descriptor above the one that takes its place. No program gets them.
__rt_eval='do \builtin eval -- "$__rt_p${__rt_a[__rt_i++]-exit 125}"; done'
__rt_loop='{ {
while '${__rt_turn//NAME/first}'; '$__rt_eval'
while { __rt_left "$_"; } >&251 2>&1; do
until '${__rt_turn//NAME/other}'; '$__rt_eval'
while '${__rt_turn//NAME/zero}'; '$__rt_eval'
done; } 247>&- 248<&- 250<&-; } 247>&250 248<&250; { __rt_again; } >/dev/null 2>&1'
__rt_len=${#__rt_loop}

[[ -r ~/.bashrc ]] && . ~/.bashrc 247>&- 248<&- 250<&-
bind 'set enable-bracketed-paste off' 2>/dev/null
unset HISTFILE
PS1= PS2=
__rt_mend
readonly -f __rt_python __rt_end __rt_drop __rt_flags __rt_look __rt_mend __rt_again __rt_left
