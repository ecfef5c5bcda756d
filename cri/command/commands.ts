/** The commands that only the CRI server's half can do. What they do is imported when somebody asks for it. */
import type { Command } from '#host/daemon/program.ts';
import type { Settings } from '#host/daemon/settings.ts';

/** `nodeNameOf`: the name that this machine would have as a node. */
export const checkCommand = (nodeNameOf: (settings: Settings) => string): Command => ({
  name: 'check',
  forms: [['nodelet check', 'is this machine fit for it, and what to do where it is not']],
  help: `nodelet check: looks at this machine and says what is missing and how to get it. Changes nothing but a scratch directory that it removes.

  --json              the same for programs

Each line is "ok", "note" (worth knowing), "warn" (something will not work as well, or not for some pods) or "FAIL" (nodelet will not work).
Exit status: 0 nothing fails · 1 something does · 2 wrong flags or configuration.
`,
  flags: { json: { type: 'boolean' } },
  run: async (invocation) => (await import('./check.ts')).check(invocation, nodeNameOf),
});

export const imageCommand: Command = {
  name: 'image',
  forms: [
    ['nodelet image ls', 'the images on this node'],
    ['nodelet image import PATH…', 'load OCI layouts or docker archives (tar or directory)'],
    ['nodelet image rm IMAGE…', 'remove images by name or id'],
  ],
  help: `nodelet image ls: the images on this node.
nodelet image import PATH…: loads OCI layouts or docker archives (tar or directory). --name NAME for one that has no name.
nodelet image rm IMAGE…: removes images by name or id. Containers that run keep what they need.

They work beside a running nodelet, which notices what changed.
`,
  takesArguments: true,
  flags: { name: { type: 'string' } },
  run: async (invocation) => (await import('./image.ts')).image(invocation),
};

export const versionCommand: Command = {
  name: 'version',
  forms: [['nodelet version', '']],
  help: `nodelet version: of nodelet, of the Node it runs on, and of the programs it uses.
`,
  run: async ({ program }) => (await import('./version.ts')).printVersion(program.version),
};
