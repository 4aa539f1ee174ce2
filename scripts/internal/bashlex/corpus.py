#!/usr/bin/env python3
"""Write what bashlex makes of many texts, one JSON object a line: {"text": ..., "commands": [...]}.

The engine's own splitter (sdk/agent/engine/split) is tested against these answers. Run in an environment with
requirements.txt; the same seed gives the same corpus:

    python3 scripts/internal/bashlex/corpus.py >sdk/agent/engine/split/testdata/bashlex.jsonl
"""

import json
import random
import sys

import bashlex

COUNT = 4000
SEED = 20251128

ATOMS = [
    'ls', 'echo a', 'echo "a b"', "echo 'a\nb'", 'echo "x\ny"', 'cd /tmp', 'A=1', 'export A=1', 'A=1 env', 'true', '! false',
    'echo $A', 'echo ${A:-x}', 'echo ${#A}', 'echo ${A//x/y}', 'echo $(date)', 'echo "$(ls; pwd)"', 'echo `date`', 'echo $((1+2))',
    'echo \\; b', 'echo a\\\nb', 'cat <<E\nx\nE', "cat <<'E'\nx $y\nE", 'cat <<-E\n\tx\n\tE', 'cat <<E | wc\nx\nE', 'cat <<<x',
    'cat <<E && echo b\nx\nE', 'cat <<A <<B\na\nA\nb\nB', 'echo a >f', 'echo a 2>&1', 'echo a &>f', 'echo a >>f 2>/dev/null', 'cat <f >g',
    'if true; then echo a; fi', 'if true\nthen\necho a\nelse\necho b\nfi', 'for i in 1 2; do echo $i; done', 'for i in 1 2\ndo\necho $i\ndone',
    'while true; do break; done', 'while read x; do\n  echo $x\ndone <f', 'until false; do :; done', '{ echo a; echo b; }', '{\necho a\n}',
    '(cd /tmp; ls)', '(\nls\n)', 'f() { echo a; }', 'f() {\n  echo a\n}', 'function g { ls; }', 'function g() {\n  ls\n}', 'case $x in a) echo;; esac',
    'case $x in\na|b)\n  echo\n  ;;\nesac', '[ -f x ]', '[[ -f x ]]', '((i++))', 'for ((i=0;i<3;i++)); do echo; done', 'a=(1 2)', 'a+=(3)',
    'echo ${a[@]}', 'select x in a; do :; done', 'time ls', 'coproc cat', 'echo a#b', "echo '#' x", 'echo "a # b"', 'diff <(ls) <(ls -a)', 'tee >(cat)',
    'python3 -c "print(1)"', "python3 -c '\nimport os\nprint(os)\n'", 'git commit -m "a\n\nb"', 'ls | wc -l', 'ls |\nwc', 'ls |& wc', 'a && b', 'a &&\nb',
    'a || b', 'a ||\n  b', 'a; b', 'a;b;', 'a &', 'a & b', 'sleep 1 & wait', 'echo "unclosed', "echo 'unclosed", 'echo `date', 'echo $(date',
    'cat <<E\nx', 'if true', 'done', 'echo )', '(', '}', 'echo ;;', "$'a\\nb'", 'echo $"x"', 'echo {1..3}', 'ls *.txt', 'echo ~', 'echo é ü', 'echo 日本',
    'find . -name "*.py" -exec ls {} \\;', 'find . -type f | xargs grep -l foo', "awk '{print $1}' f", "sed -e 's/a/b/' -e 's/c/d/' f",
    'curl -s "http://x/?a=1&b=2"', 'test -d x && cd x || mkdir x', 'exec bash', 'set -e', 'source ~/.bashrc', '. f', 'nohup x >log 2>&1 &', 'x=$(cat <<E\na\nE\n)',
    'echo "$(cat <<E\na\nE\n)"', 'echo $[1+2]', 'echo "${A}"', 'echo "$A"\'b\'c', 'let i=1', 'echo !', 'if ! a; then b; fi', 'a | b | c && d || e; f',
    'echo a\\', "cat > f <<'EOF'\nline 1\nline 2\nEOF", "cat > f << EOF\n$(date)\n`x`\nEOF", 'C-c', 'y', 'q', 'import os\nprint(1)', 'x = 1',
]
JOINTS = ['\n'] * 8 + [' \n', '\n ', '\n\n', ' ', '; ', ';\n', ' && ', ' &&\n', ' | ', ' &\n', '\n# c\n', ' # c\n', '\n#c', '\t\n', '\r\n', '\n\t', ' \\\n ', '\n \n', ' ;\n', ' & ']
HEADS = [''] * 12 + ['# c\n', '#!/bin/bash\n', '\\\n']
TAILS = [''] * 10 + [' # c', ';', ' &', '\n# c', ' \\']


def split(text):
    """The rule of OpenHands (reference 3.4), in our own words: what lies between two nodes goes to the first of them."""
    try:
        nodes = bashlex.parse(text)
    except (bashlex.errors.ParsingError, NotImplementedError, TypeError, AttributeError):
        return [text]
    except Exception as e:  # OpenHands answers with the text of these; no command of an agent's is known to do it.
        return None
    commands, end = [], 0
    for node in nodes:
        between = text[end:node.pos[0]].rstrip()
        if commands:
            commands[-1] += between
        elif between:
            commands.append(between)
        commands.append(text[node.pos[0]:node.pos[1]].rstrip())
        end = node.pos[1]
    rest = text[end:].rstrip()
    if commands:
        commands[-1] += rest
    elif rest:
        commands.append(rest)
    return commands


def texts(rnd):
    for atom in ATOMS:
        yield atom
        yield atom + '\necho b'
        yield 'echo a\n' + atom
    while True:
        text = rnd.choice(HEADS) + rnd.choice(ATOMS)
        for _ in range(rnd.choice([0, 1, 1, 1, 2, 3])):
            text += rnd.choice(JOINTS) + rnd.choice(ATOMS)
        yield text + rnd.choice(TAILS)


def main():
    rnd, seen = random.Random(SEED), set()
    for text in texts(rnd):
        text = text.strip()
        if text in seen:
            continue
        seen.add(text)
        commands = split(text)
        if commands is not None:
            json.dump({'text': text, 'commands': commands}, sys.stdout, ensure_ascii=False)
            sys.stdout.write('\n')
        if len(seen) >= COUNT:
            return


if __name__ == '__main__':
    main()
