// People with matrix-js-sdk and its Rust cryptography, told what to do by lines of JSON: `{"id", "do", …}` in,
// `{"id", "done"}` or `{"id", "failed"}` out. tests/e2e/javascript.py is the other end.
// It runs where the packages are installed (`make js`), which is not where this file is.

import { Console } from "node:console";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

globalThis.console = new Console(process.stderr, process.stderr); // stdout is for answers
process.on("unhandledRejection", (error) => console.error("nobody waited for this:", error));

const installed = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(installed.resolve(name)));
const sdk = await load("matrix-js-sdk");
const { CryptoEvent, VerificationPhase, VerificationRequestEvent, VerifierEvent, decodeRecoveryKey } = await load(
    "matrix-js-sdk/lib/crypto-api/index.js",
);
const { SlidingSync } = await load("matrix-js-sdk/lib/sliding-sync.js");
const { RustBackupManager } = await load("matrix-js-sdk/lib/rust-crypto/backup.js");
RustBackupManager.maxBackupLoopStartDelayMillis = 0; // keys go into the backup at once

/** Name → {client, the key of the secret storage, what came from devices, requests to verify}. */
const devices = new Map();

const quiet = { trace() {}, debug() {}, info() {}, warn() {}, error: console.error, getChild: () => quiet };

/** Until `look` gives something, looked at whenever the emitter tells of a change. */
function when(emitter, event, look) {
    return new Promise((resolve, reject) => {
        const check = () => {
            try {
                const found = look();
                if (found) {
                    emitter.off(event, check);
                    resolve(found);
                }
            } catch (error) {
                reject(error);
            }
        };
        emitter.on(event, check);
        check();
    });
}

/** What server-side interactive authentication wants: nothing, or else the password. */
const byPassword = (client, password) => async (request) => {
    try {
        return await request(null);
    } catch (error) {
        if (error.httpStatus !== 401) throw error;
        const identifier = { type: "m.id.user", user: client.getUserId() };
        return request({ type: "m.login.password", identifier, password, session: error.data.session });
    }
};

/** An event as the person sees it. */
function seen(event, room) {
    const id = event.getId();
    const reactions = room.relations.getChildEventsForEvent(id, "m.annotation", "m.reaction");
    return {
        id,
        type: event.getType(),
        sender: event.getSender(),
        body: event.isDecryptionFailure() ? null : (event.getContent().body ?? null),
        encrypted: event.isEncrypted(),
        edited: event.replacingEventId() !== undefined,
        redacted: event.isRedacted(),
        reactions: (reactions?.getSortedAnnotationsByKey() ?? []).map(([key, events]) => [key, events.size]),
    };
}

/** One side of a comparison of emoji; gives them, and agrees. */
async function compare(request, starts) {
    const phase = (...wanted) => when(request, VerificationRequestEvent.Change, () => {
        if (request.phase === VerificationPhase.Cancelled) throw new Error(`cancelled: ${request.cancellationCode}`);
        return wanted.includes(request.phase);
    });
    await phase(VerificationPhase.Ready, VerificationPhase.Started);
    const verifier = starts
        ? await request.startVerification("m.sas.v1")
        : await when(request, VerificationRequestEvent.Change, () => request.verifier);
    const done = verifier.verify();
    const shown = await Promise.race([
        when(verifier, VerifierEvent.ShowSas, () => verifier.getShowSasCallbacks()),
        done.then(() => Promise.reject(new Error("done, and nothing was shown"))),
    ]);
    await shown.confirm();
    await done;
    await phase(VerificationPhase.Done);
    return shown.sas.emoji.map(([, name]) => name);
}

const actions = {
    /** Log in on a new device and sync, the usual way or by sliding windows. */
    async enter({ name, base, user, password, sliding }) {
        const identifier = { type: "m.id.user", user };
        const login = await sdk
            .createClient({ baseUrl: base, logger: quiet })
            .loginRequest({ type: "m.login.password", identifier, password });
        const device = { storageKey: null, letters: [], requests: [] };
        const client = (device.client = sdk.createClient({
            baseUrl: base,
            userId: login.user_id,
            deviceId: login.device_id,
            accessToken: login.access_token,
            timelineSupport: true,
            logger: quiet,
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => device.storageKey && [Object.keys(keys)[0], device.storageKey],
                cacheSecretStorageKey: (id, info, key) => (device.storageKey = key),
            },
        }));
        devices.set(name, device);
        await client.initRustCrypto({ useIndexedDB: false });
        client.on("receivedToDeviceMessage", ({ message, encryptionInfo }) =>
            device.letters.push({ type: message.type, content: message.content, encrypted: encryptionInfo !== null }),
        );
        client.on(CryptoEvent.VerificationRequestReceived, (request) => device.requests.push(request));
        const options = { threadSupport: true, initialSyncLimit: 50 };
        if (sliding) {
            const list = { ranges: [[0, 20]], timeline_limit: 50, required_state: [["*", "*"]] };
            options.slidingSync = new SlidingSync(base, new Map([["all", list]]), list, client, 5000);
        }
        await client.startClient(options);
        await when(client, "sync", () => client.getSyncState() === "SYNCING" || client.getSyncState() === "PREPARED");
        return { user: login.user_id, device: login.device_id, token: login.access_token };
    },

    async join({ name, roomId }) {
        await devices.get(name).client.joinRoom(roomId);
    },

    /** Any method of the client (`sendMessage`) or of its cryptography (`crypto.crossSignDevice`) that speaks JSON. */
    async call({ name, method, args }) {
        const { client } = devices.get(name);
        const [on, what] = method.startsWith("crypto.") ? [client.getCrypto(), method.slice(7)] : [client, method];
        return on[what](...args);
    },

    /** Everything that a new person sets up: cross-signing, secret storage, backup. Their recovery key. */
    async bootstrap({ name, password }) {
        const { client } = devices.get(name);
        const crypto = client.getCrypto();
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: byPassword(client, password) });
        let recoveryKey;
        await crypto.bootstrapSecretStorage({
            setupNewKeyBackup: true,
            createSecretStorageKey: async () => {
                const made = await crypto.createRecoveryKeyFromPassphrase();
                recoveryKey = made.encodedPrivateKey;
                return made;
            },
        });
        return recoveryKey;
    },

    /** What a new device does with the recovery key; how many keys were in the backup. */
    async recover({ name, recoveryKey }) {
        const device = devices.get(name);
        const crypto = device.client.getCrypto();
        device.storageKey = decodeRecoveryKey(recoveryKey);
        await crypto.userHasCrossSigningKeys(device.client.getUserId(), true); // the public ones, which it checks with
        await crypto.bootstrapCrossSigning({});
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.checkKeyBackupAndEnable();
        return (await crypto.restoreKeyBackup()).imported;
    },

    async standing({ name }) {
        const crypto = devices.get(name).client.getCrypto();
        const secret = await crypto.getSessionBackupPrivateKey();
        return {
            crossSigning: await crypto.isCrossSigningReady(),
            secretStorage: await crypto.isSecretStorageReady(),
            backup: await crypto.getActiveSessionBackupVersion(),
            backupKey: secret && Buffer.from(secret).toString("base64"),
        };
    },

    /** Whether a person is verified, and each of their devices because they are. */
    async trust({ name, user }) {
        const crypto = devices.get(name).client.getCrypto();
        const theirs = (await crypto.getUserDeviceInfo([user], true)).get(user) ?? new Map();
        const found = {};
        for (const id of theirs.keys()) {
            found[id] = (await crypto.getDeviceVerificationStatus(user, id)).crossSigningVerified;
        }
        return { person: (await crypto.getUserVerificationStatus(user)).isCrossSigningVerified(), devices: found };
    },

    /** Two devices of ours compare emoji: in a room, or, of one person, from device to device. */
    async verify({ name, other, roomId }) {
        const [mine, theirs] = [devices.get(name), devices.get(other)];
        const crypto = mine.client.getCrypto();
        const request = roomId
            ? await crypto.requestVerificationDM(theirs.client.getUserId(), roomId)
            : await crypto.requestOwnUserVerification();
        const received = await when(theirs.client, CryptoEvent.VerificationRequestReceived, () => theirs.requests.pop());
        await received.accept();
        return Promise.all([compare(request, true), compare(received, false)]);
    },

    async sendSecretly({ name, type, user, device, content }) {
        const { client } = devices.get(name);
        const to = [{ userId: user, deviceId: device }];
        await client.queueToDevice(await client.getCrypto().encryptToDeviceMessages(type, to, content));
    },

    async letters({ name, type }) {
        return devices.get(name).letters.filter((letter) => letter.type === type);
    },

    /** A room as the person sees it; null where they do not know it. */
    async room({ name, roomId }) {
        const { client } = devices.get(name);
        const room = client.getRoom(roomId);
        if (room === null) return null;
        await room.decryptAllEvents();
        return {
            name: room.name,
            membership: room.getMyMembership(),
            members: room.getJoinedMembers().map((member) => member.userId).sort(),
            timeline: room.getLiveTimeline().getEvents().map((event) => seen(event, room)),
            threads: Object.fromEntries(room.getThreads().map((thread) => [
                thread.id,
                {
                    length: thread.length,
                    events: thread.events.map((event) => seen(event, room)),
                    unread: room.getThreadUnreadNotificationCount(thread.id, "total"),
                },
            ])),
            unread: room.getRoomUnreadNotificationCount("total"),
        };
    },

    /** Say something in a thread, which who opens it makes, as far as the sdk is concerned. */
    async answer({ name, roomId, root, body }) {
        const { client } = devices.get(name);
        const room = client.getRoom(roomId);
        if (!room.getThread(root)) room.createThread(root, room.findEventById(root), [], true);
        await client.sendMessage(roomId, root, { msgtype: "m.text", body });
    },

    async read({ name, roomId, eventId }) {
        const { client } = devices.get(name);
        await client.sendReadReceipt(client.getRoom(roomId).findEventById(eventId));
    },

    async hasRead({ name, roomId, eventId, user }) {
        return devices.get(name).client.getRoom(roomId).hasUserReadEvent(user, eventId);
    },

    /** A file by way of the address that the sdk makes of its URI. */
    async upload({ name, data, type }) {
        const file = new Blob([Buffer.from(data, "base64")], { type });
        return (await devices.get(name).client.uploadContent(file, { name: "file", type })).content_uri;
    },

    async download({ name, uri, width, height }) {
        const { client } = devices.get(name);
        const url = client.mxcUrlToHttp(uri, width, height, width && "crop", false, true, true);
        const answer = await fetch(url, { headers: { Authorization: `Bearer ${client.getAccessToken()}` } });
        return { status: answer.status, data: Buffer.from(await answer.arrayBuffer()).toString("base64") };
    },
};

createInterface({ input: process.stdin })
    .on("line", async (line) => {
        const { id, do: action, ...ask } = JSON.parse(line);
        let answer;
        try {
            answer = JSON.stringify({ id, done: (await actions[action](ask)) ?? null });
        } catch (error) {
            answer = JSON.stringify({ id, failed: `${error?.stack ?? error}` });
        }
        process.stdout.write(`${answer}\n`);
    })
    .on("close", () => process.exit());
