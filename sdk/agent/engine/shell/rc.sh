# What the persistent shell reads at its start instead of ~/.bashrc, which it reads from here.
#
# Descriptor 247 is a socket to the agent, 248 the file that holds the next command. The prompt hook never returns to a prompt:
# it reports to the agent, waits for a command, and evaluates it at top level with both descriptors closed. It forks nothing.
# Aliases and functions of the user's do not reach into it: words are quoted, and it is read before ~/.bashrc.

exec 246<&-
__rt_key=@KEY@ __rt_q=0 __rt_n= __rt_s=0 __rt_t= __rt_p= __rt_i=0 __rt_j=0 __rt_b= __rt_a=() __rt_all=()
__rt_py= __rt_path= __rt_at= __rt_user='\u' __rt_host='\h'
__rt_user=${__rt_user@P} __rt_host=${__rt_host@P}

# The first python in PATH. Looked for again when PATH has changed or the answer is gone; a missing one at most once a second.
__rt_python() {
  local - IFS=: d
  set -f
  __rt_path=${PATH-} __rt_at=${EPOCHSECONDS-} __rt_py=
  for d in $__rt_path; do
    [[ -x ${d:-.}/python && ! -d ${d:-.}/python ]] && { __rt_py=${d:-.}/python; return; }
  done
}

# One turn: report how the last command ended, wait for the next. Its argument restores $_.
# A trigger names the report that it answers: one that was sent before an interrupt is not taken for the next.
__rt_turn() {
  __rt_s=$?
  [[ -z $__rt_b ]] || __rt_s=$__rt_b
  case $- in *x*) set +x; __rt_p='{ set -x; } 2>/dev/null;' ;; *) __rt_p= ;; esac
  [[ ${PATH-} == "$__rt_path" && ( ( -n $__rt_py && -x $__rt_py ) || ( -z $__rt_py && ${EPOCHSECONDS-} == "$__rt_at" ) ) ]] ||
    __rt_python
  [[ ${PROMPT_COMMAND-} == "$__rt_loop" ]] || { unset PROMPT_COMMAND; PROMPT_COMMAND=("${__rt_all[@]}"); }
  __rt_q=$((__rt_q + 1)) __rt_a=()
  \builtin printf '%s\0' "$__rt_key" "$__rt_n" "$__rt_q" "$__rt_s" "${!-}" "${PWD-}" "$__rt_user" "$__rt_host" "$__rt_py" >&247 ||
    \builtin exit "$__rt_s"
  while IFS= \builtin read -r ${TMOUT:+"-t99999999"} -u 247 __rt_t; do
    [[ $__rt_t == "$__rt_q "* ]] || continue
    IFS= \builtin read -r -d '' -u 248 "__rt_a[$__rt_i]"
    __rt_n=${__rt_t#* } __rt_j=0 __rt_b=
    return 0
  done
  \builtin exit "$__rt_s"
}

# Restores $? and, by its argument, $_, where neither -e nor ERR sees it.
__rt_status() { return "$__rt_s"; }

# A break in a command, or a stopped job, gets out of the loop below. There is a next one in PROMPT_COMMAND; behind the last, an
# interrupt leads back to the first, since nothing else starts them again. It gives up when the hook cannot run at all.
__rt_again() {
  __rt_b=$?
  ((__rt_j++ < 9)) || \builtin exit 125
}

# Both branches are the same: in the second, $? is that of the last command. The subscript makes sure that no command is
# evaluated twice. What the user's -x and DEBUG say of the loop itself goes nowhere.
__rt_loop='while { __rt_turn "$_"; } >/dev/null 2>&1; do if { __rt_status "$_"; } >/dev/null 2>&1
then \builtin eval -- "$__rt_p${__rt_a[__rt_i++]-exit 125}" 247>&- 248<&-
else \builtin eval -- "$__rt_p${__rt_a[__rt_i++]-exit 125}" 247>&- 248<&-; fi; done; { __rt_again; } >/dev/null 2>&1'

for __rt_i in {1..200}; do __rt_all+=("$__rt_loop"); done
__rt_i=0 __rt_all+=('{ \builtin kill -INT $$; } 2>/dev/null; \builtin exit 125')

[[ -r ~/.bashrc ]] && . ~/.bashrc 247>&- 248<&-
bind 'set enable-bracketed-paste off' 2>/dev/null
unset HISTFILE PROMPT_COMMAND
PS1= PS2= PROMPT_COMMAND=("${__rt_all[@]}")
