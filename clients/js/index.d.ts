// Types of the client. `Channel` takes a description of what goes over it, `Presence` the shape of
// metas and of what `fetch` adds to entries; without them payloads are `any`.

/** A value, or what makes one. */
export type OrFunction<T> = T | (() => T)

/** What has the methods of an EventTarget; `Events` are its details by name. */
declare class Emitter<Events extends object> {
  addEventListener<N extends keyof Events & string>(
    type: N,
    listener: (event: DetailEvent<Events[N]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void
  removeEventListener<N extends keyof Events & string>(
    type: N,
    listener: (event: DetailEvent<Events[N]>) => void,
    options?: boolean | EventListenerOptions,
  ): void
}

export interface DetailEvent<T> extends Event {
  readonly detail: T
}

// Sockets.

export interface Transport {
  binaryType?: string
  readonly readyState: number
  readonly bufferedAmount?: number
  onopen: ((event: any) => void) | null
  onerror: ((event: any) => void) | null
  onmessage: ((event: any) => void) | null
  onclose: ((event: any) => void) | null
  send(data: any): void
  close(code?: number, reason?: string): void
}

export type TransportClass = new (url: string, protocols?: string[]) => Transport

export interface Message<Payload = any> {
  join_ref?: string | null
  ref?: string | null
  topic: string
  event: string
  payload: Payload
}

export interface SocketOptions {
  /** WebSocket where there is one, else LongPoll. */
  transport?: TransportClass
  /** After how many ms without an open and an answer LongPoll is used; off by default. */
  longPollFallbackMs?: number
  /** Print what happens. */
  debug?: boolean
  logger?: (kind: string, message: string, data?: any) => void
  encode?: (message: Message, callback: (encoded: any) => void) => void
  decode?: (raw: any, callback: (message: Message) => void) => void
  /** Of pushes and joins, 10,000 ms. */
  timeout?: number
  /** Between heartbeats, and for the answer to one: 30,000 ms. */
  heartbeatIntervalMs?: number
  reconnectAfterMs?: (tries: number) => number
  rejoinAfterMs?: (tries: number) => number
  /** The part of the default waits, 0 to 1, of which a random share is taken off; 0. */
  jitter?: number
  /** Of one poll, 20,000 ms. */
  longpollerTimeout?: number
  /** A function is called at every connection. */
  params?: OrFunction<object>
  /** A function is called at every connection. It may fetch; null or undefined means logged out. */
  authToken?: string | (() => string | null | undefined | Promise<string | null | undefined>)
  /** Whether a connection that ended, or was refused, means that the user has to log in again. */
  isLogout?: (event: CloseEvent) => boolean | Promise<boolean>
  binaryType?: BinaryType
  vsn?: string
  sessionStorage?: Pick<Storage, "getItem" | "setItem">
}

export interface SocketEvents {
  open: undefined
  close: CloseEvent
  error: any
  message: Message
  /** Nothing reconnects from here on, until `connect`. */
  logout: CloseEvent | { reason: string }
}

export type ConnectionState = "connecting" | "open" | "closing" | "closed"

export class Socket extends Emitter<SocketEvents> {
  constructor(endPoint: string, options?: SocketOptions)
  readonly channels: Channel<any>[]
  readonly endPoint: string
  readonly vsn: string
  readonly timeout: number
  readonly conn: Transport | null | undefined
  readonly loggedOut: boolean
  connect(params?: object): void
  disconnect(callback?: (() => void) | null, code?: number, reason?: string): void
  replaceTransport(transport: TransportClass): void
  getLongPollTransport(): typeof LongPoll
  protocol(): "ws" | "wss"
  endPointURL(): string
  connectionState(): ConnectionState
  isConnected(): boolean
  channel<S extends ChannelSpec = AnyChannel>(
    topic: string,
    params?: OrFunction<object>,
  ): Channel<S>
  remove(channel: Channel<any>): void
  push(message: Message): void
  ping(callback: (rttMs: number) => void): boolean
  makeRef(): string
  onOpen(callback: () => void): string
  onClose(callback: (event: CloseEvent) => void): string
  onError(
    callback: (error: any, transport: TransportClass, establishedConnections: number) => void,
  ): string
  onMessage(callback: (message: Message) => void): string
  off(refs: string[]): void
  log(kind: string, message: string, data?: any): void
  hasLogger(): boolean
}

// Channels.

/**
 * What goes over a channel:
 *
 *     interface Room {
 *       reply: { seat: number } // of the join
 *       events: { shout: { from: string; body: string } } // from the server
 *       pushes: { shout: { payload: { body: string }; reply: { id: number } } } // to the server
 *     }
 */
export interface ChannelSpec {
  reply?: any
  error?: any
  events?: object
  pushes?: object
}

export interface AnyChannel {
  reply: any
  error: any
}

type EventName<S> = S extends { events: infer E }
  ? (keyof E & string) | `phx_${string}` | `presence_${string}`
  : string
type EventPayload<S, N> = S extends { events: infer E } ? (N extends keyof E ? E[N] : any) : any
type PushName<S> = S extends { pushes: infer P } ? keyof P & string : string
type PushSpec<S, N> = S extends { pushes: infer P } ? (N extends keyof P ? P[N] : never) : AnyPush
interface AnyPush {
  payload?: any
  reply: any
  error: any
}
type PayloadOf<P> = P extends { payload: infer T }
  ? T
  : P extends { payload?: infer T }
    ? T | undefined
    : undefined
type ReplyOf<P> = P extends { reply: infer T } ? T : any
type ErrorOf<P> = P extends { error: infer T } ? T : any
type PushArguments<T> = undefined extends T
  ? [payload?: T, timeout?: number]
  : [payload: T, timeout?: number]

export type ChannelState = "closed" | "errored" | "joined" | "joining" | "leaving"

export class Channel<S extends ChannelSpec = AnyChannel> extends Emitter<
  S extends { events: infer E extends object } ? E : Record<string, any>
> {
  constructor(topic: string, params: OrFunction<object> | undefined, socket: Socket)
  readonly topic: string
  readonly state: ChannelState
  readonly socket: Socket
  readonly params: () => object
  timeout: number
  join(timeout?: number): Push<ReplyOf<S>, ErrorOf<S>>
  leave(timeout?: number): Push<object>
  push<N extends PushName<S>>(
    event: N,
    ...rest: PushArguments<PayloadOf<PushSpec<S, N>>>
  ): Push<ReplyOf<PushSpec<S, N>>, ErrorOf<PushSpec<S, N>>>
  on<N extends EventName<S>>(
    event: N,
    callback: (payload: EventPayload<S, N>, ref?: string | null, joinRef?: string) => void,
  ): number
  off(event: EventName<S>, ref?: number): void
  onClose(callback: (payload: any, ref?: string | null, joinRef?: string) => void): number
  onError(callback: (reason?: any) => void): number
  /** To be overridden; has to return the payload. */
  onMessage(event: string, payload: any, ref?: string | null, joinRef?: string): any
  canPush(): boolean
  joinRef(): string | null
  isClosed(): boolean
  isErrored(): boolean
  isJoined(): boolean
  isJoining(): boolean
  isLeaving(): boolean
}

/** Await it, or `receive`. */
export class Push<Reply = any, Failure = any> implements PromiseLike<Reply> {
  readonly channel: Channel<any>
  readonly event: string
  readonly timeout: number
  readonly ref: string | null
  readonly sent: boolean
  receive(status: "ok", callback: (response: Reply) => void): this
  receive(status: "error", callback: (response: Failure) => void): this
  receive(status: string, callback: (response: any) => void): this
  /** Rejects with a `PushError`. */
  then<A = Reply, B = never>(
    onOk?: ((response: Reply) => A | PromiseLike<A>) | null,
    onError?: ((error: PushError) => B | PromiseLike<B>) | null,
  ): Promise<A | B>
  catch<B = never>(onError?: ((error: PushError) => B | PromiseLike<B>) | null): Promise<Reply | B>
  finally(callback?: (() => void) | null): Promise<Reply>
}

export class PushError<Failure = any> extends Error {
  readonly topic: string
  readonly event: string
  /** The server's, or "timeout", or "closed". */
  readonly status: string
  readonly response: Failure
}

// Presence.

export type Meta<M> = M & { phx_ref: string; phx_ref_prev?: string }
/** `Extra` is what a `fetch` of the server adds. */
export type Entry<M = any, Extra = {}> = Extra & { metas: Meta<M>[] }
export type Presences<M = any, Extra = {}> = Record<string, Entry<M, Extra>>
export interface Diff<M = any, Extra = {}> {
  joins: Presences<M, Extra>
  leaves: Presences<M, Extra>
}
export interface Counts {
  users: number
  connections: number
}

export type OnJoin<M = any, Extra = {}> = (
  key: string,
  current: Entry<M, Extra> | undefined,
  joined: Entry<M, Extra>,
) => void
export type OnLeave<M = any, Extra = {}> = (
  key: string,
  current: Entry<M, Extra>,
  left: Entry<M, Extra>,
) => void

export interface PresenceOptions {
  events?: { state: string; diff: string; count?: string }
}

export interface PresenceEvents<M, Extra> {
  join: { key: string; current: Entry<M, Extra> | undefined; joined: Entry<M, Extra> }
  leave: { key: string; current: Entry<M, Extra>; left: Entry<M, Extra> }
  sync: Presence<M, Extra>
  count: Counts
}

export class Presence<M = any, Extra = {}> extends Emitter<PresenceEvents<M, Extra>> {
  constructor(channel: Channel<any>, options?: PresenceOptions)
  readonly state: Presences<M, Extra>
  readonly channel: Channel<any>
  readonly isCounted: boolean
  onJoin(callback: OnJoin<M, Extra>): void
  onLeave(callback: OnLeave<M, Extra>): void
  onSync(callback: () => void): void
  onCount(callback: (counts: Counts) => void): void
  list(): Entry<M, Extra>[]
  list<T>(by: (key: string, entry: Entry<M, Extra>) => T): T[]
  count(): Counts
  inPendingSyncState(): boolean
  static syncState<M = any, Extra = {}>(
    currentState: Presences<M, Extra>,
    newState: Presences<M, Extra>,
    onJoin?: OnJoin<M, Extra>,
    onLeave?: OnLeave<M, Extra>,
  ): Presences<M, Extra>
  static syncDiff<M = any, Extra = {}>(
    state: Presences<M, Extra>,
    diff: Diff<M, Extra>,
    onJoin?: OnJoin<M, Extra>,
    onLeave?: OnLeave<M, Extra>,
  ): Presences<M, Extra>
  static list<M = any, Extra = {}>(presences: Presences<M, Extra>): Entry<M, Extra>[]
  static list<T, M = any, Extra = {}>(
    presences: Presences<M, Extra>,
    chooser: (key: string, entry: Entry<M, Extra>) => T,
  ): T[]
}

// What a `for await` reads.

/** Ends when the channel closes. */
export interface Stream<T> extends AsyncIterableIterator<T> {
  /** How many were dropped since they were not read in time. */
  readonly dropped: number
  /** Add nothing more; what is there is still read. */
  end(): void
}

/** The payloads of an event; of those that nobody has read yet, the newest `limit`, 1,000. */
export function messages<S extends ChannelSpec, N extends EventName<S>>(
  channel: Channel<S>,
  event: N,
  options?: { limit?: number },
): Stream<EventPayload<S, N>>

/** The list after each change; whoever reads slowly gets the newest one. */
export function lists<M, Extra>(presence: Presence<M, Extra>): Stream<Entry<M, Extra>[]>
export function lists<M, Extra, T>(
  presence: Presence<M, Extra>,
  by: (key: string, entry: Entry<M, Extra>) => T,
): Stream<T[]>

// The rest.

export class LongPoll implements Transport {
  constructor(url: string, protocols?: string[])
  readonly readyState: number
  timeout: number
  onopen: (event: any) => void
  onerror: (event: any) => void
  onmessage: (event: any) => void
  onclose: (event: any) => void
  send(data: string | ArrayBuffer | ArrayBufferView): void
  close(code?: number, reason?: string, wasClean?: boolean): void
}

export const Serializer: {
  encode<T>(message: Message, callback: (encoded: string | ArrayBuffer) => T): T
  decode<T>(raw: string | ArrayBuffer, callback: (message: Message) => T): T
}

export class Timer {
  constructor(callback: () => void, timerCalc: (tries: number) => number)
  reset(): void
  scheduleTimeout(): void
}

export type ActivityState = "active" | "away"

export interface ActivityOptions {
  /** 300,000 ms. */
  idleAfterMs?: number
  /** 30,000 ms. */
  hiddenAfterMs?: number
}

/** Whether somebody is at this page. */
export class Activity extends Emitter<{ change: ActivityState }> {
  constructor(options?: ActivityOptions)
  readonly state: ActivityState
  onChange(callback: (state: ActivityState) => void): () => void
  stop(): void
}

/** The id of this browser, kept in `localStorage`. */
export function browserId(storage?: Storage): string
/** Both ids as params: `new Socket("/socket", { params: identity })`. */
export function identity(): { browser_id: string; tab_id: string }
/** The id of this tab, the same after a reload, another one in a copy of the tab. */
export function tabId(storage?: Storage): string
