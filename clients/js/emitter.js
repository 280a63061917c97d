// Events beside callbacks: whoever extends Emitter has the methods of an EventTarget.
//
// The target is a field and made when somebody listens. So a message costs nothing more if nobody
// does, and objects in the proxies of Vue and others work (a native method refuses a proxy).

class ClientEvent extends Event {
  constructor(type, detail) {
    super(type)
    this.detail = detail
  }
}

export default class Emitter {
  addEventListener(...args) {
    this.target ??= new EventTarget()
    this.target.addEventListener(...args)
  }

  removeEventListener(...args) {
    this.target?.removeEventListener(...args)
  }

  /** Dispatch an event with a `detail` to those who listen. */
  emit(type, detail) {
    this.target?.dispatchEvent(new ClientEvent(type, detail))
  }
}
