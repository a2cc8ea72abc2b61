// Makes the members a replica set, and its two users. For mongosh, at the first member's own address:
// while there is no user, MongoDB lets whoever comes from its own machine do this, and nobody else.
// Run again, it changes nothing but the passwords.

const { MONGO_ADMIN_PASSWORD, MONGO_PASSWORD, MONGO_MEMBERS } = process.env;
const SET = 'rs0';

function signedIn(admin) {
  try {
    return admin.auth('admin', MONGO_ADMIN_PASSWORD).ok === 1;
  } catch (error) {
    if (error.codeName === 'AuthenticationFailed') return false; // no such user yet
    throw error;
  }
}

function setUser(database, name, password, roles) {
  if (database.getUser(name)) {
    database.updateUser(name, { pwd: password, roles });
  } else {
    database.createUser({ user: name, pwd: password, roles });
  }
}

let admin = db.getSiblingDB('admin');
if (!signedIn(admin)) {
  try {
    const members = MONGO_MEMBERS.split(',').map((host, _id) => ({ _id, host }));
    rs.initiate({ _id: SET, members });
  } catch (error) {
    if (error.codeName !== 'AlreadyInitialized') throw error;
  }
  // The others are still copying, so it is the first member that is elected.
  for (let tries = 0; !db.hello().isWritablePrimary; tries += 1) {
    if (tries === 300) throw new Error('the first member has not become the primary within a minute');
    sleep(200);
  }
  admin.createUser({ user: 'admin', pwd: MONGO_ADMIN_PASSWORD, roles: ['root'] });
}
// Later on any member may be the primary.
const password = encodeURIComponent(MONGO_ADMIN_PASSWORD);
admin = connect(`mongodb://admin:${password}@${MONGO_MEMBERS}/admin?replicaSet=${SET}`);
// dbAdmin: to change an index that an older version made.
const roles = ['readWrite', 'dbAdmin'];
setUser(admin.getSiblingDB('offiaccount'), 'offiaccount', MONGO_PASSWORD, roles);
print(`replica set ${SET} is ready`);
