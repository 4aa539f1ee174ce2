// The vendor's TypeScript client, unmodified, judges the emulator: every check goes through its own helper methods.
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sdkModule, { RunloopSDK, Runloop } from '@runloop/api-client';

const http2 = process.env.JUDGE_HTTP2 !== 'false';
const tunnelTemplate = process.env.RUNLOOP_TUNNEL_TEMPLATE;
const sdk = new RunloopSDK({ http2 });
const api = sdk.api;
assert.ok(sdkModule);

const checks = [];
const check = (name, run) => checks.push([name, run]);
const ms = () => performance.now();

check('create, echo, list, update', async () => {
  const box = await sdk.devbox.create({
    name: 'judge', metadata: { team: 'a' }, environment_variables: { COLOUR: 'blue' },
    launch_parameters: { resource_size_request: 'X_SMALL', keep_alive_time_seconds: 600, launch_commands: ['echo ready > /tmp/ready'],
      lifecycle: { after_idle: { idle_time_seconds: 300, on_idle: 'suspend' } } },
    mounts: [{ type: 'file_mount', target: '/home/user/mounted.txt', content: 'from a mount' }],
  });
  const info = await box.getInfo();
  assert.match(info.id, /^dbx_[0-9A-Za-z]{21}$/);
  assert.equal(info.status, 'running');
  assert.equal(info.name, 'judge');
  assert.equal(info.launch_parameters.resource_size_request, 'X_SMALL');
  assert.equal(info.launch_parameters.keep_alive_time_seconds, 600);
  assert.equal(info.launch_parameters.lifecycle.after_idle.on_idle, 'suspend');
  assert.deepEqual(info.metadata, { team: 'a' });
  assert.equal(info.tunnel, null);
  assert.equal(info.end_time_ms, null);
  assert.deepEqual(info.state_transitions.map((t) => t.status), ['provisioning', 'initializing', 'running']);
  assert.equal(await box.file.read({ file_path: 'mounted.txt' }), 'from a mount');
  assert.equal((await box.cmd.exec('cat /tmp/ready; echo $COLOUR')).exitCode, 0);
  const updated = await api.devboxes.update(box.id, { name: 'renamed' });
  assert.equal(updated.name, 'renamed');
  assert.deepEqual(updated.metadata, { team: 'a' });
  const page = await api.devboxes.list({ status: 'running', limit: 1 });
  assert.equal(page.devboxes.length, 1);
  let seen = 0;
  for await (const one of api.devboxes.list({ limit: 1 })) if (one.id === box.id) seen++;
  assert.equal(seen, 1);
  assert.equal((await box.shutdown()).status, 'shutdown');
  assert.equal((await box.shutdown()).shutdown_reason, 'api_shutdown');
});

check('executions', async (box) => {
  const result = await box.cmd.exec('echo out; echo err >&2; exit 42');
  assert.equal(result.exitCode, 42);
  assert.ok(result.failed);
  assert.equal(await result.stdout(), 'out\n');
  assert.equal(await result.stderr(), 'err\n');
  const silent = await box.cmd.exec('true');
  assert.equal(await silent.stdout(), '');
  const raw = await api.devboxes.executeAndAwaitCompletion(box.id, { command: 'seq 5', last_n: '3' });
  assert.equal(raw.stdout, '3\n4\n5\n');
  assert.equal(raw.stdout_truncated, true);
  const hundred = await box.cmd.exec('seq 100');
  assert.equal(hundred.result.stdout_truncated, false);
  const long = await box.cmd.exec('seq 2000');
  assert.equal((await long.stdout()).trim().split('\n').length, 2000);
  assert.equal(await long.stdout(2), '1999\n2000');
  const sync = await api.devboxes.executeSync(box.id, { command: 'pwd' });
  assert.equal(sync.stdout, '/home/user\n');
  assert.equal(sync.exit_status, 0);
});

check('streams come while the command runs', async (box) => {
  const got = [];
  const start = ms();
  let first = 0;
  const result = await box.cmd.exec('echo one; sleep 1.5; echo two; echo three >&2', {
    stdout: (line) => { first ||= ms() - start; got.push(line); }, stderr: (line) => got.push(`E${line}`), output: () => {},
  });
  assert.equal(result.exitCode, 0);
  assert.ok(first < 1400, `the first line took ${first} ms`);
  assert.equal(got.filter((l) => !l.startsWith('E')).join(''), 'one\ntwo\n');
  assert.ok(got.includes('Ethree\n'));
  const replay = await api.devboxes.executions.streamStdoutUpdates(box.id, result.executionId, { offset: '4' });
  let text = '';
  for await (const chunk of replay) { text += chunk.output; assert.equal(chunk.offset, 4 + text.length); }
  assert.equal(text, 'two\n');
});

check('async, kill, state', async (box) => {
  const execution = await box.cmd.execAsync('echo started; sleep 600');
  assert.equal((await execution.getState()).status, 'running');
  await execution.kill();
  const result = await execution.result();
  assert.notEqual(result.exitCode, 0);
  await execution.kill();
  assert.equal((await execution.getState()).status, 'completed');
});

check('stdin', async (box) => {
  const execution = await api.devboxes.executeAsync(box.id, { command: 'read line; echo "got $line"', attach_stdin: true });
  const sent = await api.devboxes.executions.sendStdIn(box.id, execution.execution_id, { text: 'hello\n' });
  assert.equal(sent.success, true);
  const done = await api.devboxes.executions.awaitCompleted(box.id, execution.execution_id);
  assert.equal(done.stdout, 'got hello\n');
});

check('named shells keep their state and run one after another', async (box) => {
  const shell = box.shell('main');
  await shell.exec('cd /tmp && export KEEP=me');
  assert.equal(await (await shell.exec('pwd; echo $KEEP')).stdout(), '/tmp\nme\n');
  const all = await Promise.all([1, 2, 3].map((n) => shell.exec(`echo start ${n} >> log; sleep 0.2; echo end ${n} >> log`)));
  assert.ok(all.every((r) => r.exitCode === 0));
  const lines = (await (await shell.exec('cat log')).stdout()).trim().split('\n');
  for (let i = 0; i < 6; i += 2) assert.equal(lines[i].replace('start', 'end'), lines[i + 1]);
});

check('files', async (box) => {
  await box.file.write({ file_path: '~/dir/a.txt', contents: 'Grüße\n' });
  assert.equal(await box.file.read({ file_path: '/home/user/dir/a.txt' }), 'Grüße\n');
  const bytes = Buffer.from([0, 255, 10, 13, 128]);
  await box.file.upload({ path: '/tmp/up.bin', file: new File([bytes], 'up.bin') });
  const response = await box.file.download({ path: '/tmp/up.bin' });
  assert.deepEqual(Buffer.from(await response.arrayBuffer()), bytes);
  await assert.rejects(box.file.download({ path: '/tmp/none' }), Runloop.NotFoundError);
});

check('logs and usage', async (box) => {
  const result = await box.cmd.exec('echo findme-in-the-log');
  const logs = await box.logs({ execution_id: result.executionId });
  assert.ok(logs.logs.some((l) => l.message?.includes('findme-in-the-log')));
  const usage = await api.devboxes.retrieveResourceUsage(box.id);
  assert.equal(usage.id, box.id);
  assert.ok(usage.total_elapsed_seconds >= usage.total_active_seconds);
});

check('snapshots', async (box) => {
  await box.file.write({ file_path: '/tmp/kept.txt', contents: 'kept' });
  const snapshot = await box.snapshotDisk({ name: 'judge-snap', metadata: { v: '1' }, commit_message: 'first' });
  const info = await snapshot.getInfo();
  assert.equal(info.status, 'complete');
  assert.equal(info.snapshot.commit_message, 'first');
  assert.equal(info.snapshot.source_devbox_id, box.id);
  const found = await api.devboxes.diskSnapshots.list({ 'metadata[v]': '1', devbox_id: box.id });
  assert.equal(found.snapshots.length, 1);
  const copy = await sdk.devbox.createFromSnapshot(snapshot.id, { name: 'copy' });
  assert.equal((await copy.getInfo()).snapshot_id, snapshot.id);
  assert.equal(await copy.file.read({ file_path: '/tmp/kept.txt' }), 'kept');
  await copy.shutdown();
  await snapshot.delete();
  assert.equal((await snapshot.getInfo()).status, 'deleted');
  await snapshot.delete();
});

check('suspend and resume', async (box) => {
  await box.file.write({ file_path: 'stays.txt', contents: 'stays' });
  await box.cmd.exec('nohup sleep 4242 >/dev/null 2>&1 &');
  await box.suspend();
  assert.equal((await box.awaitSuspended()).status, 'suspended');
  await assert.rejects(box.suspend(), Runloop.BadRequestError);
  await assert.rejects(box.cmd.exec('true'), Runloop.BadRequestError);
  assert.equal((await box.resume()).status, 'running');
  assert.equal(await box.file.read({ file_path: 'stays.txt' }), 'stays');
  assert.equal(await (await box.cmd.exec('pgrep -f "sleep 424[2]" || echo gone')).stdout(), 'gone\n');
});

check('tunnels', async (box) => {
  await assert.rejects(box.getTunnelUrl(8080));
  const tunnel = await box.net.enableTunnel({ auth_mode: 'authenticated' });
  assert.ok(tunnel.auth_token);
  assert.match(await box.getTunnelUrl(8080), new RegExp(`^https://8080-${tunnel.tunnel_key}\\.tunnel\\.`));
  await assert.rejects(box.net.enableTunnel(), Runloop.BadRequestError);
  await box.cmd.execAsync('mkdir -p www && cd www && echo served > index.html && exec python3 -m http.server 8080');
  const url = tunnelTemplate.replace('{port}', '8080').replace('{key}', tunnel.tunnel_key);
  assert.equal((await fetch(`${url}/index.html`)).status, 401);
  let response;
  for (let i = 0; i < 100; i++) {
    response = await fetch(`${url}/index.html`, { headers: { 'X-Runloop-Tunnel-Authorization': `Bearer ${tunnel.auth_token}` } });
    if (response.status !== 503) break;
    await new Promise((r) => setTimeout(r, 50));
  }
  assert.equal(await response.text(), 'served\n');
  await box.net.removeTunnel();
  assert.equal(await box.getTunnel(), null);
});

check('terminals', async (box) => {
  const tunnel = await api.devboxes.createPtyTunnel(box.id);
  const baseURL = tunnelTemplate.replace('{port}', '13').replace('{key}', tunnel.tunnel_key);
  const pty = new Runloop({ baseURL, bearerToken: tunnel.auth_token, http2 }).pty;
  const view = await pty.connect('main', { cols: 100, rows: 30 });
  assert.equal(view.created, true);
  assert.equal(view.cols, 100);
  assert.equal((await pty.connect('main')).created, false);
  assert.equal((await pty.control('main', { action: 'resize', cols: 120, rows: 40 })).session_name, 'main');
  await assert.rejects(pty.control('main', { action: 'resize', cols: 0, rows: 40 }), Runloop.BadRequestError);
  await pty.control('main', { action: 'close' });
  await assert.rejects(pty.control('main', { action: 'signal', signal: 'SIGINT' }), Runloop.NotFoundError);
});

check('errors', async () => {
  await assert.rejects(api.devboxes.retrieve('dbx_nonexistent12345'), (e) => e.status === 400);
  await assert.rejects(api.devboxes.retrieve('dbx_000000000000000000000'), Runloop.NotFoundError);
  await assert.rejects(new Runloop({ bearerToken: 'wrong', http2 }).devboxes.list(), Runloop.AuthenticationError);
  await assert.rejects(api.devboxes.create({ blueprint_id: 'bpt_none' }), Runloop.BadRequestError);
});

check('blueprints', async () => {
  const blueprint = await sdk.blueprint.create({
    name: 'judge-blueprint', dockerfile: 'FROM ubuntu:22.04\nENV BUILT=yes\nRUN echo built > /tmp/built',
    file_mounts: { '/home/user/file.txt': 'mounted' }, system_setup_commands: ['echo set > /tmp/set'],
    launch_parameters: { resource_size_request: 'SMALL' },
  });
  assert.equal((await blueprint.getInfo()).status, 'build_complete');
  assert.ok((await blueprint.logs()).logs.length > 0);
  const box = await sdk.devbox.createFromBlueprintName('judge-blueprint');
  assert.equal(await (await box.cmd.exec('cat /tmp/built /tmp/set ~/file.txt; echo $BUILT')).stdout(), 'built\nset\nmountedyes\n');
  await box.shutdown();
  await blueprint.delete();
});

check('secrets, policies, gateways, MCP, agents', async () => {
  const secret = await api.secrets.create({ name: 'JUDGE_SECRET', value: 'hidden' });
  assert.match(secret.id, /^sec_/);
  const policy = await api.networkPolicies.create({ name: 'judge-policy', allowed_hostnames: ['*.example.org'] });
  assert.deepEqual(policy.egress.allowed_hostnames, ['*.example.org']);
  assert.equal((await api.networkPolicies.update(policy.id, { allow_all: true })).egress.allow_all, true);
  const gateway = await api.gatewayConfigs.create({ name: 'judge-gw', endpoint: 'https://example.org', auth_mechanism: { type: 'bearer' } });
  const mcp = await api.mcpConfigs.create({ name: 'judge-mcp', endpoint: 'https://example.org/mcp', allowed_tools: ['*'] });
  const box = await sdk.devbox.create({
    secrets: { TOKEN: 'JUDGE_SECRET' }, gateways: { GW: { gateway: gateway.id, secret: 'JUDGE_SECRET' } },
    mcp: { MCP_TOKEN: { mcp_config: mcp.id, secret: 'JUDGE_SECRET' } }, launch_parameters: { network_policy_id: policy.id },
  });
  assert.match(await (await box.cmd.exec('echo $TOKEN $GW_URL $GW $RL_MCP_URL $MCP_TOKEN')).stdout(), /^hidden http\S+ gws_\S+ http\S+ gws_\S+\n$/);
  assert.equal((await box.getInfo()).gateway_specs.GW.gateway_config_id, gateway.id);
  await box.shutdown();
  for (const [group, id] of [[api.networkPolicies, policy.id], [api.gatewayConfigs, gateway.id], [api.mcpConfigs, mcp.id], [api.secrets, 'JUDGE_SECRET']]) {
    await group.delete(id, {});
    await assert.rejects(group.retrieve(id), Runloop.NotFoundError);
  }
  const agent = await api.agents.create({ name: 'judge-agent', version: '1.0.0', source: { type: 'npm', npm: { package_name: 'x' } } });
  assert.equal((await api.agents.retrieve(agent.id)).source.npm.package_name, 'x');
  assert.equal((await api.accounts.me()).account_status, 'ACCOUNT_STATUS_ENABLED');
});

check('objects and their mounts', async () => {
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'judge-')), 'o.txt');
  writeFileSync(file, 'from a file');
  const fromFile = await sdk.storageObject.uploadFromFile(file, 'o.txt');
  assert.equal(await fromFile.downloadAsText(), 'from a file');
  const object = await sdk.storageObject.uploadFromText('object text', 'judge.txt');
  assert.equal((await object.getInfo()).state, 'READ_ONLY');
  const box = await sdk.devbox.create({ mounts: [{ type: 'object_mount', object_id: object.id, object_path: '/home/user/o.txt' }] });
  assert.equal(await box.file.read({ file_path: 'o.txt' }), 'object text');
  await box.shutdown();
  await object.delete();
  assert.equal((await object.getInfo()).state, 'DELETED');
});

check('scenarios, benchmarks, axons', async () => {
  const scenario = await api.scenarios.create({
    name: 'judge-scenario', input_context: { problem_statement: 'make a file' },
    scoring_contract: { scoring_function_parameters: [{ name: 'made', weight: 1, scorer: { type: 'command_scorer', command: 'test -f /tmp/made' } }] },
  });
  const run = await api.scenarios.startRunAndAwaitEnvReady({ scenario_id: scenario.id });
  await api.devboxes.executeAndAwaitCompletion(run.devbox_id, { command: 'touch /tmp/made' });
  const scored = await api.scenarios.runs.scoreAndComplete(run.id);
  assert.equal(scored.state, 'completed');
  assert.equal(scored.scoring_contract_result.score, 1);
  const benchmark = await api.benchmarks.create({ name: 'judge-benchmark', scenario_ids: [scenario.id] });
  assert.equal((await api.benchmarks.definitions(benchmark.id)).scenarios[0].id, scenario.id);
  const axon = await sdk.axon.create({ name: 'judge-axon' });
  const published = await axon.publish({ event_type: 'e', origin: 'EXTERNAL_EVENT', payload: '{}', source: 'judge' });
  const stream = await axon.subscribeSse();
  for await (const event of stream) { assert.equal(event.sequence, published.sequence); break; }
});

check('evictions reach their callback', async () => {
  const box = await sdk.devbox.create();
  const told = new Promise((resolve) => box.onEvict((_, deadline) => resolve(deadline)));
  await fetch(`${process.env.RUNLOOP_BASE_URL}/_emulator/evict/${box.id}`, { method: 'POST', body: '{"after_seconds":0.5}' });
  assert.ok((await told) > 0);
  assert.equal((await box.awaitSuspended()).status, 'suspended');
  await box.shutdown();
});

const shared = await sdk.devbox.create({ name: 'shared' });
let failed = 0;
for (const [name, run] of checks) {
  try {
    await run(shared);
    console.log(`ok ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${name}: ${error.stack}`);
  }
}
await shared.shutdown();
process.exit(failed ? 1 : 0);
