/** The prompt: runs programs to their end; crictl and kubectl with parsed JSON. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { judge } from './tools.ts';

export interface Output { readonly exitCode: number; readonly stdout: string; readonly stderr: string }
export interface RunOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Default 120 s; then the program is killed and the call throws. */
  readonly timeoutMs?: number;
}

/** Runs a program and never throws for its exit code. */
export async function output(program: string, args: readonly string[], options: RunOptions = {}): Promise<Output> {
  const { stdin = '', env, cwd, timeoutMs = 120_000 } = options;
  return await new Promise((resolve, reject) => {
    const settings = { env: { ...process.env, ...env }, cwd, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 1 << 28 } as const;
    const child = execFile(program, [...args], settings, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      if (typeof code === 'number') resolve({ exitCode: code, stdout, stderr });
      else if (error?.killed === true) reject(new Error(`${words(program, args)}: not finished after ${timeoutMs / 1000} s\n${stdout}${stderr}`));
      else reject(new Error(`${words(program, args)}: ${error?.message ?? 'failed'}`));
    });
    child.stdin?.on('error', () => undefined); // a program that does not read its input closes the pipe
    child.stdin?.end(stdin);
  });
}

/** Runs a program; returns its stdout, throws with both streams when it fails. */
export async function shell(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await output(program, args, options);
  if (exitCode !== 0) throw new Error(`${words(program, args)}: exit ${exitCode}\n${stderr}${stdout}`.trimEnd());
  return stdout;
}

const words = (program: string, args: readonly string[]): string => [path.basename(program), ...args].join(' ');

export interface Prompt {
  /** Stdout as text; throws when the command fails. */
  run(args: readonly string[], options?: RunOptions): Promise<string>;
  /** Adds `-o json` after the subcommand and parses. T is what the caller knows of the shape. */
  json<T>(args: readonly string[], options?: RunOptions): Promise<T>;
  /** For commands that may fail. */
  output(args: readonly string[], options?: RunOptions): Promise<Output>;
  /** For commands that go on. */
  start(args: readonly string[], options?: Pick<RunOptions, 'env'>): Background;
  /** As a user would have to type it, for programs that run programs. */
  commandLine(args: readonly string[]): string;
}

/** A program that runs until it is disposed of. */
export interface Background extends AsyncDisposable {
  /** Waits for this on stdout or stderr; throws when the program ends before. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  /** Stdout and stderr until now. */
  readonly said: string;
  write(text: string): void;
  readonly exitCode: Promise<number | null>;
}

function background(program: string, args: readonly string[], env: RunOptions['env']): Background {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: 'pipe' });
  const exited = once(child, 'close') as Promise<[number | null]>;
  let text = '';
  let isOver = false;
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (piece: string) => { text += piece; });
  child.stdin.on('error', () => undefined);
  void exited.then(() => { isOver = true; });
  return {
    says: async (pattern) => {
      const deadline = Date.now() + 90_000;
      for (;;) {
        const match = pattern.exec(text);
        if (match !== null) return match;
        if (isOver || Date.now() > deadline) throw new Error(`${words(program, args)}: ${isOver ? 'ended without' : 'does not say'} ${String(pattern)}\n${text}`);
        await sleep(20);
      }
    },
    get said() { return text; },
    write: (piece) => { child.stdin.write(piece); },
    exitCode: exited.then(([code]) => code),
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGTERM');
      const insist = setTimeout(() => child.kill('SIGKILL'), 1000); // crictl attach takes the first for its terminal's
      await exited;
      clearTimeout(insist);
    },
  };
}

const prompt = (program: string, always: readonly string[], env: RunOptions['env'] = {}): Prompt => {
  const withEnv = (options: RunOptions = {}): RunOptions => ({ ...options, env: { ...env, ...options.env } });
  return {
    run: (args, options) => shell(program, [...always, ...args], withEnv(options)),
    json: async <T>([subcommand = '', ...args]: readonly string[], options?: RunOptions) => // crictl takes flags only before arguments
      JSON.parse(await shell(program, [...always, subcommand, '-o', 'json', ...args], withEnv(options))) as T,
    output: (args, options) => output(program, [...always, ...args], withEnv(options)),
    start: (args, options) => background(program, [...always, ...args], withEnv(options).env),
    commandLine: (args) => [program, ...always, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' '),
  };
};

export interface Crictl extends Prompt {
  /** Writes a sandbox or container configuration to a private file and returns its path. */
  file(name: string, content: unknown): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** crictl for one CRI socket (path without unix://), with a private configuration: the machine's /etc/crictl.yaml plays no part. */
export async function crictlFor(socket: string): Promise<Crictl> {
  const dir = await mkdtemp(path.join(tmpdir(), 'nodelet-crictl-'));
  const config = path.join(dir, 'crictl.yaml');
  await writeFile(config, `runtime-endpoint: unix://${socket}\nimage-endpoint: unix://${socket}\ntimeout: 60\n`);
  return {
    ...prompt(judge('crictl'), ['-c', config]),
    file: async (name, content) => {
      const file = path.join(dir, name);
      await writeFile(file, JSON.stringify(content));
      return file;
    },
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

export interface Kubectl extends Prompt {
  /** `kubectl apply -f -` with one or more objects, or with YAML text. */
  apply(objects: string | object | readonly object[]): Promise<void>;
}

/** kubectl with one kubeconfig; its caches go to no one's home. */
export function kubectlFor(kubeconfig: string): Kubectl {
  const base = prompt(judge('kubectl'), ['--kubeconfig', kubeconfig, '--cache-dir', path.join(path.dirname(kubeconfig), 'kubectl-cache')], { KUBECONFIG: undefined });
  return {
    ...base,
    apply: async (objects) => {
      const list: readonly object[] = typeof objects === 'string' ? [] : Array.isArray(objects) ? (objects as readonly object[]) : [objects];
      const stdin = typeof objects === 'string' ? objects : JSON.stringify({ apiVersion: 'v1', kind: 'List', items: list });
      await base.run(['apply', '-f', '-'], { stdin });
    },
  };
}
