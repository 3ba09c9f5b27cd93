"""Tags of MagnaTagATune: all 188 in the order of its table, the 50 that papers use, and words for the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ALL_TAGS = tuple(
    """no voice,singer,duet,plucking,hard rock,world,bongos,harpsichord,female singing,clasical,sitar,
chorus,female opera,male vocal,vocals,clarinet,heavy,silence,beats,men,woodwind,funky,no strings,
chimes,foreign,no piano,horns,classical,female,no voices,soft rock,eerie,spacey,jazz,guitar,quiet,
no beat,banjo,electric,solo,violins,folk,female voice,wind,happy,ambient,new age,synth,funk,
no singing,middle eastern,trumpet,percussion,drum,airy,voice,repetitive,birds,space,strings,bass,
harpsicord,medieval,male voice,girl,keyboard,acoustic,loud,classic,string,drums,electronic,
not classical,chanting,no violin,not rock,no guitar,organ,no vocal,talking,choral,weird,opera,
soprano,fast,acoustic guitar,electric guitar,male singer,man singing,classical guitar,country,violin,
electro,reggae,tribal,dark,male opera,no vocals,irish,electronica,horn,operatic,arabic,lol,low,
instrumental,trance,chant,strange,drone,synthesizer,heavy metal,modern,disco,bells,man,deep,
fast beat,industrial,hard,harp,no flute,jungle,pop,lute,female vocal,oboe,mellow,orchestral,viola,
light,echo,piano,celtic,male vocals,orchestra,eastern,old,flutes,punk,spanish,sad,sax,slow,male,
blues,vocal,indian,no singer,scary,india,woman,woman singing,rock,dance,piano solo,guitars,
no drums,jazzy,singing,cello,calm,female vocals,voices,different,techno,clapping,house,monks,
flute,not opera,not english,oriental,beat,upbeat,soft,noise,choir,female singer,rap,metal,hip hop,
quick,water,baroque,women,fiddle,english""".replace("\n", "").split(",")
)

# The 50 most frequent, the most frequent first.
TOP_50 = tuple(
    """guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,synth,female,indian,
opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,male vocal,no vocal,pop,soft,sitar,solo,man,
classic,choir,voice,new age,dance,male voice,female vocal,beats,harp,cello,no voice,weird,country,metal,female voice,
choral""".replace("\n", "").split(",")
)

# The groups are K. Choi's (magnatagatune-list, 2016), who doubts two of them himself: opera + operatic and
# hard + hard rock. "female vocal" beside "female vocals" is ours: his list leaves it out.
SYNONYMS: tuple[tuple[str, ...], ...] = tuple(
    tuple(group.split(","))
    for group in (
        "beat,beats",
        "chant,chanting",
        "choir,choral",
        "classical,clasical,classic",
        "drum,drums",
        "electro,electronic,electronica,electric",
        "fast,fast beat,quick",
        "female,female singer,female singing,female vocal,female vocals,female voice,woman,woman singing,women",
        "flute,flutes",
        "guitar,guitars",
        "hard,hard rock",
        "harpsichord,harpsicord",
        "heavy,heavy metal,metal",
        "horn,horns",
        "india,indian",
        "jazz,jazzy",
        "male,male singer,male vocal,male vocals,male voice,man,man singing,men",
        "no beat,no drums",
        "no singer,no singing,no vocal,no vocals,no voice,no voices,instrumental",
        "opera,operatic",
        "orchestra,orchestral",
        "quiet,silence",
        "singer,singing",
        "space,spacey",
        "string,strings",
        "synth,synthesizer",
        "violin,violins",
        "vocal,vocals,voice,voices",
        "strange,weird",
    )
)


def names_after_merging(known: Sequence[str]) -> Mapping[str, str]:
    """Map each tag to the one that stands for its group: the most frequent member of the usual 50, else the first.

    Parameters
    ----------
    known : sequence of str
        The tags of a table; only these are merged, so a table of some tags works too.

    Returns
    -------
    Mapping of str to str
        Tag to tag, every one of ``known``.
    """
    present = set(known)
    names = {tag: tag for tag in known}
    for group in SYNONYMS:
        members = [tag for tag in group if tag in present]
        usual = [tag for tag in TOP_50 if tag in members]
        names.update(dict.fromkeys(members, (usual or members)[0]) if members else {})
    return names
