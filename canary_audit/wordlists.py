"""Word lists for secrets made of words, `{word:NAME}` in a format: built-in ones, and the user's own files.

Built-in words are lower-case ASCII letters and distinct, and no word of a list begins another one of it: a secret that
ends in such a word needs no suffix. A list of 64 words gives 6 bits a word, `english` 10.

Two lists are made from the model when canaries are drawn, and have the same property: `tokens`, words that are single
tokens of its tokenizer, and `sampled`, texts that it wrote before it was trained here. Both are for canaries that bound
epsilon.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from canary_audit.errors import SpaceError

TOKENS = "tokens"
SAMPLED = "sampled"
GENERATED = frozenset({TOKENS, SAMPLED})
"""Lists that are made from the model, under names that no other list may take."""

FEWEST_TOKENS = 32
"""Words that a list of single tokens has at least."""
SAMPLES_PER_CANARY = 2.5
"""Sampled texts for each canary: it is drawn among at least twice as many secrets as there are canaries."""
_FEWEST_SAMPLES = 16


def n_sampled_texts(n_canaries: int) -> int:
    """Size of the list of sampled texts for this many canaries."""
    return max(_FEWEST_SAMPLES, math.ceil(SAMPLES_PER_CANARY * n_canaries))


def stand_ins(needed: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Lists to plan with before those of the model are made; `needed` is what `canaries.generated_lists_of` found.

    Their words mean nothing, and none begins another one. `tokens` is as short as it can be, `sampled` as long as it
    will be; a word is about as long as usual.
    """
    shapes = {TOKENS: (FEWEST_TOKENS, 6), SAMPLED: (n_sampled_texts(needed.get(SAMPLED, 0)), 120)}
    return {name: tuple(f"{number:x>{shapes[name][1]}}" for number in range(shapes[name][0])) for name in needed}


def load_word_lists(paths: Mapping[str, str | Path]) -> dict[str, tuple[str, ...]]:
    """Read files with one word a line, in UTF-8; `paths` maps the name of a list to its file.

    Raises:
        SpaceError: a file cannot be read, a line is empty, repeats another one, or is not one word, or a name is kept
            for a list that is made from the model.
    """
    for name in sorted(GENERATED & set(paths)):
        raise SpaceError(f"word list {name!r}: this name is kept for a list made from the model; choose another")
    return {name: _load_word_list(Path(path)) for name, path in paths.items()}


def find_mistake(words: Sequence[str], *, texts: bool = False) -> tuple[int, str] | None:
    """The first word that a list cannot hold: its place, counted from 1, and what is wrong with it.

    A list of `texts`, such as `sampled`, may hold several words an entry, with one space between two.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(words, start=1):
        if not word:
            return place, "it is empty"
        single_words = word.split(" ") if texts else [word]
        if not word.isprintable() or not all(single_words) or any(map(str.isspace, "".join(single_words))):
            return place, "it holds a space, a tab or another character that is no part of a word"
        if places.setdefault(word, place) != place:
            return place, f"it repeats number {places[word]}"
    return None


def _load_word_list(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpaceError(f"{path}: no such word list") from None
    except OSError as error:
        raise SpaceError(f"{path}: the word list cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SpaceError(f"{path}: line {line}: not UTF-8; save the word list as UTF-8 text") from None
    words = text.removesuffix("\n").split("\n") if text else []
    if not words:
        raise SpaceError(f"{path}: the word list is empty; write one word a line")
    if mistake := find_mistake(words):
        raise SpaceError(f"{path}: line {mistake[0]}: {mistake[1]}; write distinct words, one a line")
    return tuple(words)


_COLORS = """
amber apricot aqua ash azure beige black blue blush bone brass brick bronze brown buff carmine cerise charcoal cherry
chestnut cobalt copper coral cream crimson cyan denim ebony ecru emerald fawn flax fuchsia garnet gold gray green
indigo ivory jade khaki lavender lemon lilac lime magenta maroon mauve mint navy ochre olive orange orchid peach pearl
pink plum purple red ruby russet rust saffron salmon sand sapphire scarlet sepia silver slate steel tan taupe teal
topaz turquoise umber violet white
"""

_ANIMALS = """
aardvark adder albatross alpaca ant badger barracuda bat bear beaver bee bison boar bobcat buffalo butterfly buzzard
camel canary capybara caribou carp cat cheetah chicken chimpanzee chinchilla chipmunk cicada clam cobra cockatoo cod
condor cougar cow coyote crab crane cricket crocodile crow cuckoo deer dingo dog dolphin donkey dove dragonfly duck
eagle eel egret elephant elk emu falcon ferret finch firefly flamingo fox frog gazelle gecko gerbil gibbon giraffe gnu
goat goose gopher gorilla grasshopper grouse gull hamster hare hawk hedgehog heron herring hippo hornet horse hound
hyena ibex ibis iguana impala jackal jaguar jay jellyfish kangaroo kestrel kingfisher kiwi koala lark lemming lemur
leopard lion lizard llama lobster lynx macaw magpie mallard manatee marmot marten meerkat mink mole mongoose monkey
moose moth mouse mule octopus otter owl
"""

_FOODS = """
almond apple artichoke asparagus aubergine avocado banana barley basil bean beet blackberry blueberry broccoli cabbage
carrot cashew cauliflower celery chard chickpea chicory chive cinnamon clementine clove coconut coriander corn
cranberry cucumber currant date dill elderberry endive fennel fig garlic ginger gooseberry grape guava hazelnut kale
kumquat leek lentil lettuce lychee mandarin mango marjoram melon millet mulberry mushroom mustard nectarine nutmeg oat
okra onion oregano papaya parsley parsnip pear pecan pepper persimmon pineapple pistachio pomegranate potato
pumpkin quince radish raisin raspberry rhubarb rice rosemary rye sage shallot sorrel spinach squash strawberry
tangerine tarragon turnip walnut yam zucchini
"""

_OBJECTS = """
abacus anchor anvil apron arrow awl axe bagpipe balloon banner barrel basket battery beaker bell belt bench bicycle
binder blanket boat bobbin bolt book boomerang boot bottle bowl bracelet brick bridge brooch broom brush bucket bugle
button cabinet cable candle canoe carpet cart cello chain chair chalk chest chisel clamp cleaver clip clock coat coin
comb compass cord cork couch crate crayon crib crown cup curtain cushion cymbal dagger desk dial diary dice doll door
drape drawer drill drum duster earring easel engine envelope fan faucet feather fence fiddle file flag flask flint
flute folder fork fountain frame funnel gate gavel globe glove goblet gong grate griddle guitar hammer hammock harness
harp hat helmet hinge hook horn hose inkwell jacket jar joystick jug keg kettle key kite knife ladder ladle lamp
lantern lens lever lock loom magnet mallet map marble mask mast mirror mitten mop mug nail necklace needle net
notebook oar oven paddle pan pencil piano pillow pipe plate pliers plow pocket pot pulley purse quilt rack radio rake
razor ribbon ring robe rope rudder ruler saddle sail saw scarf scissors screw shelf shield shovel sieve skate sled
sock spade spoon stamp stapler stool stove strap sword table tent thimble thread ticket tile torch towel tower toy
tray trowel trumpet trunk umbrella vase violin wagon wallet wheel whistle wick window wire wrench zipper
"""

_PLACES = """
abbey alley arena atoll avenue bakery bank barn bay bazaar beach bog boulevard brook cabin camp canal canyon cape
castle cathedral cave cellar chapel church cinema city cliff coast college cottage court cove crater creek crossing
dairy dam delta depot desert dock dune embassy estate factory farm ferry field fjord forest fort forum gallery garage
garden geyser glacier glen gorge grove gulf hamlet harbor heath highway hill hollow hospital hostel hotel house hut
inlet inn island jungle kiosk lagoon lake library lighthouse lodge manor market marsh meadow mesa mill mine moor
mosque mountain museum oasis ocean office orchard palace park pasture path peak pier plain plateau plaza pond port
prairie pub quarry ravine reef resort ridge river road ruin school shed shore shrine spring square stable stadium
station
"""

_VERBS = """
admire answer arrange arrive attach bake balance begin believe borrow bounce breathe bring build bury buy call carry
carve catch celebrate choose clap clean climb close collect compare cook copy count cover cross dance decide deliver
describe dig discover divide dream drift drive drop earn eat enjoy enter examine explain explore fasten fetch fill
find finish fix float flow fold follow forget forgive gather give glide greet grow guard guess guide hang hear help
hide hold hum hunt imagine improve invent invite join juggle jump keep kick knit knock laugh lean learn leave lend
lift listen look march measure meet melt mend mix move notice offer open order pack paint pass pay plant play point
polish pour praise prepare press promise pull push reach read repair rest return
"""

_ENGLISH = """
able academy accept accident acid across action actor adult advice afraid agency agree airport alarm album alert alive
alone alphabet although amazing amount ancient angle angry announce annual another anxious appeal appear april archive
argue arise army article artist asthma athlete atom attend auction august aunt author autumn awake award awful
bachelor backward bacon balcony bandage bargain basic beauty because benefit better birthday bishop bitter blade blame
blossom blunt body boil border bored boss bother brain brave bread brief bright brother brown bubble budget bulb
burden burger busy calm campaign cancel capital captain careful castor casual century certain champion change chaos
charge chase cheap cheese chief child chimney choice chunk circle citizen civil claim clerk clever client clown club
coach coffee collar comfort comic common concert conduct congress control convince copper correct cotton couple
courage cousin cradle craft crash crazy credit crisp critic crowd crush cube culture cupboard cure current custom
cycle daily damage danger daughter dawn deal debate debris decade decrease degree delay denial dentist depart depend
deputy despair destroy detail devote diagram diamond diet differ dignity dilemma dinner direct dirt disease display
distance doctor document domain donate double draft drama dress drink dwarf dynamic eager early earth easily east
ecology edge effort eight either electric elegant element elite embrace emerge emotion employ empty enable endless
enemy energy enforce engage enhance enough ensure entire episode equal equip erase erode error escape essay eternal
ethics evening event evidence evil exact example excess exchange excite exclude excuse execute exercise exhaust exist
exotic expand express extra eyebrow fabric face faculty faint faith false fame family famous fancy fantasy fashion
fatal fatigue fault favorite federal fever fiction fifteen figure final finger fiscal fitness flame flash flavor flock
floor flower fluid foam focus food force fossil foster fragile freedom frequent fresh friend fringe front frost frozen
fruit funny furnace fury future galaxy game gap genius genre gentle genuine gesture ghost giant gift girl glad glance
glass glimpse gloom glory glue gospel gossip grace grain grant gravity great grid grief grit grocery growth guilt
guitar half harvest hazard head health height hidden high history hobby holiday home honey hope horror hour huge
humble humor hundred hurry hurt husband hybrid idea identify idle ignore illegal illness image imitate immense immune
impact impose impulse include income increase index indoor industry infant inform inhale initial injury inmate inner
innocent input inquiry insane insect inside inspire install intact interest invest isolate issue item january jeans
journey judge juice july junior junk just keen kid kind kingdom kiss knee language laptop large later lecture legal
legend leisure length lesson letter level liberty license life light limb linen liquid little lively loan logic lonely
loud loyal lucky luggage lumber lunar lunch luxury lyrics machine magic major make mammal manage mandate manual march
margin marine massive material matrix matter maximum maze mechanic medal media melody member memory menu mercy merit
merry metal method middle midnight milk minute miracle misery mistake mobile model modify moment monster moral morning
mother motion multiply muscle mutual myself mystery myth naive narrow nasty nation near negative neither nerve never
news nice night noble noise nominee noodle normal north nose notable nothing novel nuclear nurse obey object oblige
obscure observe obtain obvious occur october odor often olympic once oneself online oppose option ordinary original
orphan outdoor outer output owner oxygen oyster pair panel panic parade parent parrot party patient pattern payment
peanut people perfect person phone photo phrase physical picnic picture piece pilot pistol pizza planet please pluck
plunge poem poet police popular portion position possible poverty powder power predict present prevent print priority
prison prize problem process produce project proof property prosper protect proud provide pulp puppy purchase purity
purpose puzzle pyramid quality quantum quarter question quit quiz quote random range rapid rate raven reason rebel
rebuild receive recipe record recycle reduce reflect refuse region regret regular reject relief rely remain remember
remove render renew rent reopen repeat replace require rescue resist result retreat reveal review reward rhythm rich
rifle right rigid riot ripple risk ritual rival robot rocket romance rough route rude sad salad salmon salon salt
salute same sample satisfy sausage save scale scatter scene school science scorpion scout script search season second
secret section security segment select senior sense sentence series service session settle seven shadow shaft share
sheriff shift shiver shock shoot short shoulder shrug shuffle shy sibling sick side siege sight silent silk silly
similar simple sister situate size skirt slender slice slogan slow small smart smile smooth snow soap social soda soft
solar soldier solid solution someone song soon soul sound soup source south space spatial spawn special speed spell
spend spider spike spin spirit split sponsor spray spread spy staff stage stairs start state stay steak stem stick
still sting stock stomach story strategy street strike strong student stuff submit subway such sudden suffer sugar
suggest suit summer sunny super supply surface surge survey suspect sustain swallow swap sweet swift swim switch
symptom syrup tackle tag talent tank tape target taste tattoo taxi teach team tenant tennis term test text thank theme
theory thing three thrive throw thunder tide timber tiny tired tissue title toast tobacco today toddler together
toilet token tomato tomorrow tone tool tooth topic topple tornado tortoise total tourist toward traffic tragic train
transfer trap trash travel tree trend trial tribe trick trigger trim trip trophy trouble truck true trust truth tumble
tuna tunnel turkey turn turtle twelve twenty twice twin twist type typical ugly unable unaware uncle uncover undo
unfair unfold unhappy uniform unique unit universe unknown unlock until unveil update upgrade uphold upon upper upset
urban urge useful usual utility vacant vacuum vague valid valve vanish various vault vehicle velvet vendor venture
venue verify version vessel veteran viable vibrant victory video view vintage virtual virus visa visit vital vivid
vocal voice volume vote voyage wage wait walk want warfare warm warrior wash wasp waste wave way wealth weapon wear
weather web wedding weekend weird welcome west what wheat when where wide width wild will win wire wisdom wise wish
wolf wonder wood wool word work world worry worth wrap wreck wrist write wrong yard yellow yesterday youth zebra zone
"""

_FIRST_NAMES = """
aaron abigail adam agnes alan alexander alfred alice alison amanda amber amir amy andrew angela anthony antonio april
arthur ashley audrey barbara beatrice benjamin beth betty beverly billy bobby bonnie brandon brenda bruce carla carlos
carmen caroline catherine charles charlotte chloe christina clara claudia connor courtney craig curtis cynthia daisy
daniel darren dawn deborah dennis derek diego donna dorothy douglas dylan edith edward elaine eleanor elena elizabeth
ella emily erin esther ethan eugene eva evelyn farah felicia felix fernando fiona florence frances frank frederick
gabriel gary gavin george gerald gina gloria gordon grace graham gregory gretchen hannah harold harriet hassan hazel
heather hector helen henry herbert holly hugo ian ibrahim ingrid irene isaac isabel jack jacob james jamie jane
jasmine jason jean jeffrey jennifer jeremy jerome jill joan jocelyn joel jonathan jorge jose judith karen karl kate
kathleen keith kelly kenneth kimberly laura lauren leonard leslie lewis lisa logan louis lucy luis luke mabel madison
malcolm margaret maria marilyn mark martha martin mason matthew megan melissa michael miguel mohammed molly monica
morgan muriel nancy natalie neil nicholas nicole nigel nina nora norman olivia omar oscar pamela patricia patrick paul
pedro peggy peter philip phoebe priya rachel ramona randall raymond rebecca ricardo richard robert robin rosa rowan
russell ruth samuel sandra sarah scott sebastian sergio sheila shirley sidney simon sofia sonia sophie stanley
stephanie steven stuart susan sylvia tamara tara teresa terrence thelma thomas tiffany tina tobias trevor tyler ursula
valerie vanessa vincent violet vivian walter wanda warren wayne wesley wilfred winifred xavier yolanda yusuf zara zoe
"""

_LAST_NAMES = """
aguilar ahmed alexander allen anderson arnold atkinson austin ball barker barnes baxter becker bell bennett bishop
blackwell blair bolton bowen boyd bradford bradshaw brady brennan brooks brown burgess burke burns cameron campbell
carlson carpenter carroll chambers chandler chang chavez chen christensen clark clayton clements cohen coleman collins
cortez costello crawford cruz cunningham daniels davidson dawson delgado dempsey dickson doherty donnelly douglas
doyle duffy dunn edwards elliott emerson erickson farrell ferguson fields fisher fleming fletcher forbes franklin
freeman gallagher garrett gibson gilbert gill goodman gordon grant graves gray greene griffin guerrero gupta hale
hamilton hansen harper harrison harvey hayes henderson hernandez herrera higgins hoffman holmes hopkins howell hubbard
hudson huffman hussain ingram jackson jenkins jensen keller kelley khan kirby kowalski kumar lancaster larson lawson
lee leonard leung levy lewis lindsey little lloyd logan lopez lowe lynch macdonald mackenzie maldonado malik marshall
martinez mason matthews mccarthy mclean mejia meyer middleton miller mitchell molina monroe montgomery moore morris
moss mueller murphy murray myers nash navarro newman nguyen nichols nolan norris novak nunez obrien oconnor olsen
ortega osborne padilla palmer parsons patel patterson payne pearce pena perez peters porter powell quinn reed reid
reyes rhodes richardson riley rivera roberts rodriguez rogers romero rosario rowe ruiz russell salazar sanchez sanders
saunders schmidt schultz shaw shelton silva simpson singh slater smith snyder soto spencer stanley stephens stewart
stone sweeney taylor thornton torres townsend tucker turner valdez vargas vasquez vaughan vega walker wallace walsh
walters wang ward watkins watson weaver webster weiss wheeler whitaker wilkinson williams wilson wong wright yamamoto
yates young zhang
"""

BUILTIN_WORD_LISTS: Mapping[str, tuple[str, ...]] = {
    "colors": tuple(_COLORS.split()),
    "animals": tuple(_ANIMALS.split()),
    "foods": tuple(_FOODS.split()),
    "objects": tuple(_OBJECTS.split()),
    "places": tuple(_PLACES.split()),
    "verbs": tuple(_VERBS.split()),
    "english": tuple(_ENGLISH.split()),
    "first-names": tuple(_FIRST_NAMES.split()),
    "last-names": tuple(_LAST_NAMES.split()),
}
"""Name of a list -> its words, in alphabetical order."""
